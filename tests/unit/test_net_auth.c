/* Who may come in: addresses, the token file, the bound on wrong tokens, and the reload of tokens under connections. */
#include "net_harness.h"

#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "address.h"
#include "clock.h"
#include "fake_engine.h"
#include "log.h"
#include "server_impl.h"
#include "tls_certificate.h"
#include "tokens.h"
#include "tries.h"

TestSuite(net_auth, .init = set_up, .fini = tear_down, .timeout = 60);

/* ---- addresses ---- */

static bool open_to_all(const char *text, bool authenticated, bool encrypted, bool allowed)
{
	struct sockaddr_storage address = {.ss_family = AF_INET};
	const struct address_guard guard = {authenticated, encrypted, allowed};
	struct error err;
	if (inet_pton(AF_INET, text, &((struct sockaddr_in *)&address)->sin_addr) != 1) {
		address.ss_family = AF_INET6;
		cr_assert(inet_pton(AF_INET6, text, &((struct sockaddr_in6 *)&address)->sin6_addr) == 1);
	}
	int result = address_check_open((const struct sockaddr *)&address, &guard, &err);
	cr_assert(result == 0 || (err.code == ERR_CONFIG && strchr(err.message, '\n') == NULL));
	return result == 0;
}

Test(address, open_ones_want_both_or_to_be_allowed)
{
	static const char *const local[] = {"127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"};
	static const char *const others[] = {"0.0.0.0", "126.255.255.255", "128.0.0.1", "10.0.0.1", "::", "::2",
		"fe80::1", "::ffff:10.0.0.1", "::127.0.0.1"};
	for (unsigned bits = 0; bits < 8; bits++) {
		bool authenticated = bits & 1, encrypted = bits & 2, allowed = bits & 4;
		for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++)
			cr_assert(open_to_all(local[i], authenticated, encrypted, allowed), "%s", local[i]);
		for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
			cr_assert(open_to_all(others[i], authenticated, encrypted, allowed) ==
					  (allowed || (authenticated && encrypted)),
				"%s, %u", others[i], bits);
	}
	cr_assert(address_is_local(&(struct sockaddr){.sa_family = AF_UNIX}));
	cr_assert(!address_is_local(&(struct sockaddr){.sa_family = AF_VSOCK}), "what is not known is open");
}

/* ---- tries ---- */

static struct transport_peer peer_of(uint32_t number)
{
	struct transport_peer peer = {.key.kind = '4'};
	memcpy(peer.key.bytes, &number, sizeof(number));
	return peer;
}

/* As many different wrong tokens as are looked at. */
static unsigned guess(struct tries *tries, uint32_t who, uint64_t now_ns, unsigned most)
{
	static uint64_t digest;
	struct transport_peer peer = peer_of(who);
	unsigned count = 0;
	while (count < most && tries_wait_s(tries, &peer, now_ns) == 0) {
		digest++;
		tries_wrong(tries, &peer, (const uint8_t *)&digest, now_ns);
		count++;
	}
	return count;
}

Test(tries, ten_at_once_and_one_a_second)
{
	struct tries *tries = tries_new();
	uint64_t now_ns = 5 * NS_PER_SECOND;
	struct transport_peer peer = peer_of(1);
	cr_assert(guess(tries, 1, now_ns, 1000) == TRIES_BURST);
	cr_assert(tries_wait_s(tries, &peer, now_ns) == 1, "and when to come again");
	cr_assert(guess(tries, 2, now_ns, 1000) == TRIES_BURST, "others have their own");
	cr_assert(guess(tries, 1, now_ns + NS_PER_SECOND - 1, 1000) == 0);
	cr_assert(guess(tries, 1, now_ns + NS_PER_SECOND, 1000) == 1);
	cr_assert(guess(tries, 1, now_ns + 4 * NS_PER_SECOND, 1000) == 3);
	cr_assert(guess(tries, 1, now_ns + 500 * NS_PER_SECOND, 1000) == TRIES_BURST, "no more than that is saved");
	tries_free(tries);
}

Test(tries, the_same_again_does_not_count)
{
	struct tries *tries = tries_new();
	struct transport_peer peer = peer_of(1);
	const uint64_t old[] = {11, 12, 13};
	for (unsigned i = 0; i < 1000; i++) {
		cr_assert(tries_wait_s(tries, &peer, 1000) == 0);
		tries_wrong(tries, &peer, (const uint8_t *)&old[i % 3], 1000);
	}
	cr_assert(guess(tries, 1, 1000, 1000) == TRIES_BURST - 3);
	tries_free(tries);
}

Test(tries, peers_without_room_keep_nobody_out)
{
	struct tries *tries = tries_new();
	for (uint32_t i = 0; i < TRIES_PEERS_MAX; i++)
		cr_assert(guess(tries, i, 1000 + i, 8) == 8);
	const struct transport_peer stranger = peer_of(5000000);
	for (uint32_t i = 0; i < 1000; i++) {
		cr_assert(guess(tries, 100000 + i, 5000, 1000) == TRIES_BURST, "each has its own");
		cr_assert(tries_wait_s(tries, &stranger, 5000) == 0, "who was never wrong waits for nobody");
	}
	cr_assert(guess(tries, 100999, 5000, 1000) == 0 && guess(tries, 100000, 5000, 1000) == 0,
		"they are not what makes way");
	cr_assert(guess(tries, TRIES_PEERS_MAX - 1, 5000, 1000) == TRIES_BURST - 8, "nor who was wrong last");
	tries_free(tries);
}

/* ---- tokens ---- */

static char token_path[128];

static void write_tokens(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void write_tokens(const char *format, ...)
{
	va_list args;
	snprintf(token_path, sizeof(token_path), "%s/tokens", dir);
	FILE *file = fopen(token_path, "w");
	va_start(args, format);
	vfprintf(file, format, args);
	va_end(args);
	fclose(file);
}

static const char *hash_of(const char *token)
{
	static char text[4][2 * TOKEN_DIGEST_BYTES + 1];
	static unsigned next;
	uint8_t digest[TOKEN_DIGEST_BYTES];
	char *out = text[next++ % 4];
	cr_assert(token_digest(token, strlen(token), digest) == 0);
	for (size_t i = 0; i < TOKEN_DIGEST_BYTES; i++)
		sprintf(out + 2 * i, "%02x", digest[i]);
	return out;
}

Test(net_auth, prefixes_are_sorted_and_disjoint)
{
	struct token_set *set;
	struct error err;
	uint8_t digest[TOKEN_DIGEST_BYTES];
	write_tokens("sha256:%s n read b* a/1* c* a/* b* a/2/3* b%%00* ba*\n", hash_of("t"));
	cr_assert(token_set_read(token_path, &set, &err) == 0, "%s", err.message);
	cr_assert(token_digest("t", 1, digest) == 0);
	const struct token *token = token_set_find(set, digest);
	cr_assert(token != NULL && token->prefix_count == 3 && !token->everything);
	cr_assert(memcmp(token->prefixes[0].bytes, "a/", 2) == 0 && token->prefixes[0].len == 2);
	cr_assert(token->prefixes[1].bytes[0] == 'b' && token->prefixes[1].len == 1);
	cr_assert(token->prefixes[2].bytes[0] == 'c' && token->prefixes[2].len == 1);
	cr_assert(token_allows_stream(token, "a/", 2) && token_allows_stream(token, "b\0", 2));
	cr_assert(!token_allows_stream(token, "a", 1) && !token_allows_stream(token, "", 0));
	digest[31] ^= 1;
	cr_assert(token_set_find(set, digest) == NULL, "all of it counts");
	token_set_free(set);
	unlink(token_path);
}

/* The invention of nobody: published with the hash. */
Test(net_auth, the_hash_is_sha256)
{
	cr_assert(strcmp(hash_of("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") == 0);
}

/* ---- reload ---- */

/* A server of this test's, on whose loop a reload can be asked for. */
static struct server *own;
static struct engine *own_engine;
static pthread_t own_thread;
static uv_async_t ask_for_reload;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t reloaded = PTHREAD_COND_INITIALIZER;
static int reload_result;
static struct error reload_error;
static bool reload_done, reload_last;

static int read_and_take(void)
{
	struct server_secrets *secrets;
	if (server_read_secrets(own, &options.secrets, &secrets, &reload_error) != 0)
		return -1;
	server_take_secrets(own, secrets, &options.secrets);
	return 0;
}

static void on_reload(uv_async_t *async)
{
	pthread_mutex_lock(&mutex);
	if (reload_last)
		uv_close((uv_handle_t *)async, NULL);
	else
		reload_result = read_and_take();
	reload_done = true;
	pthread_cond_signal(&reloaded);
	pthread_mutex_unlock(&mutex);
}

static int reload(void)
{
	pthread_mutex_lock(&mutex);
	reload_done = false;
	uv_async_send(&ask_for_reload);
	while (!reload_done)
		pthread_cond_wait(&reloaded, &mutex);
	pthread_mutex_unlock(&mutex);
	return reload_result;
}

static void *run_own(void *arg)
{
	struct error err;
	(void)arg;
	return server_run(own, &err) == 0 ? NULL : &own;
}

static void start_own(void)
{
	struct error err = {0};
	struct engine_hooks hooks = {0};
	cr_assert(server_new(&options, &own, &err) == 0, "%s", err.message);
	server_hooks(own, &hooks);
	own_engine = fake_engine_new(&hooks);
	cr_assert(server_start(own, own_engine, &err) == 0, "%s", err.message);
	uv_async_init(&own->net.loop, &ask_for_reload, on_reload);
	cr_assert(pthread_create(&own_thread, NULL, run_own, NULL) == 0);
}

static void stop_own(void)
{
	void *failed;
	reload_last = true;
	reload();
	kill(getpid(), SIGTERM);
	pthread_join(own_thread, &failed);
	cr_assert(failed == NULL);
	server_free(own);
	fake_engine_free(own_engine);
	unlink(token_path);
}

static struct client come_in(const char *token)
{
	struct client client = client_raw();
	struct response response;
	struct buf buf = {0};
	struct mp_writer writer;
	mp_writer_init(&writer, &buf);
	request_begin(&writer, 1, METHOD_HELLO, 2);
	mp_write_key(&writer, KEY_PROTOCOL);
	mp_write_u64(&writer, 1);
	mp_write_key(&writer, KEY_TOKEN);
	mp_write_str(&writer, token);
	cr_assert(frame_end(&writer) == 0);
	send_all(&client, buf.data, buf.len);
	buf_free(&buf);
	receive_ok(&client, 1, &response);
	return client;
}

static void is_served(struct client *client)
{
	struct response response;
	struct error err;
	ask(client, 2, METHOD_GET, "s", KEY_ID, 0, KEY_TOTAL, 0);
	cr_assert(receive(client, &response), "the connection ended");
	error_decode(response.error, &err);
	cr_assert(err.code == ERR_STREAM_NOT_FOUND, "%s", err.message);
}

static void is_ended(struct client *client)
{
	struct error err;
	receive_error(client, 0, ERR_UNAUTHORIZED, &err);
	receive_end(client);
	client_close(client);
}

Test(net_auth, a_reload_ends_whose_token_is_gone_or_changed)
{
	write_tokens("sha256:%s stays read s*\nsha256:%s goes read *\nsha256:%s changes read s*\n", hash_of("stays"),
		hash_of("goes"), hash_of("changes"));
	options.secrets.token_file = token_path;
	start_own();
	struct client stays = come_in("stays"), goes = come_in("goes"), changes = come_in("changes"),
		      silent = client_raw();
	write_tokens("sha256:%s changes read s/*\nsha256:%s new read *\nsha256:%s stays read s*\n", hash_of("changes"),
		hash_of("new"), hash_of("stays"));
	cr_assert(reload() == 0, "%s", reload_error.message);
	is_ended(&goes);
	is_ended(&changes);
	is_served(&stays);
	struct client new = come_in("new"), changed = come_in("changes");
	is_served(&new);
	client_close(&new);
	client_close(&changed);
	client_close(&silent);

	/* What is wrong changes nothing. */
	write_tokens("sha256:%s new read *\nnonsense\n", hash_of("new"));
	cr_assert(
		reload() == -1 && reload_error.code == ERR_CONFIG && strstr(reload_error.message, "tokens:2: ") != NULL,
		"%s", reload_error.message);
	unlink(token_path);
	cr_assert(reload() == -1 && strstr(reload_error.message, "No such file") != NULL, "%s", reload_error.message);
	options.secrets.token_file = NULL;
	cr_assert(reload() == -1 && strstr(reload_error.message, "restart") != NULL, "%s", reload_error.message);
	is_served(&stays);
	client_close(&stays);
	options.secrets.token_file = token_path;
	struct client again = come_in("stays");
	client_close(&again);
	stop_own();
}

static bool one_waits(void *arg)
{
	return connection_stat(arg, "waiting_iters") == 1;
}

Test(net_auth, an_iter_that_waits_ends_with_its_token)
{
	struct response response;
	write_tokens("sha256:%s t read,append *\nsha256:%s u read *\n", hash_of("t"), hash_of("u"));
	options.secrets.token_file = token_path;
	start_own();
	struct client client = come_in("t");
	append(&client, 2, "s", "x", 1);
	receive_ok(&client, 2, &response);
	struct buf buf = {0};
	put(&buf, 3, METHOD_ITER, "s", KEY_START_ID, 1, KEY_WAIT_MS, 60000);
	send_all(&client, buf.data, buf.len);
	buf_free(&buf);
	struct client other = come_in("u");
	wait_until(one_waits, &other);
	write_tokens("sha256:%s u read *\n", hash_of("u"));
	cr_assert(reload() == 0, "%s", reload_error.message);
	receive_ok(&client, 3, &response); /* empty, as at any end */
	is_ended(&client);
	client_close(&other);
	stop_own();
}

/* What systemd copied when it started the service does not change, however often it is read. */
Test(net_auth, a_reload_says_that_a_credential_is_a_copy)
{
	char log_path[96], text[4096] = "";
	snprintf(log_path, sizeof(log_path), "%s/log", dir);
	write_tokens("sha256:%s t read *\n", hash_of("t"));
	options.secrets.token_file = token_path;
	FILE *file = fopen(log_path, "w+");
	cr_assert(file != NULL);
	log_set_fd(fileno(file));
	log_set_level(LOG_LEVEL_WARN);
	start_own();
	setenv("CREDENTIALS_DIRECTORY", "/tmp/somewhere-else", 1);
	cr_assert(reload() == 0 && fread(text, 1, sizeof(text) - 1, file) == 0, "of others it says nothing: %s", text);
	setenv("CREDENTIALS_DIRECTORY", dir, 1);
	cr_assert(reload() == 0);
	rewind(file);
	cr_assert(fread(text, 1, sizeof(text) - 1, file) > 0);
	cr_assert(strstr(text, "is a copy that systemd made") != NULL && strstr(text, "restart") != NULL, "%s", text);
	log_set_fd(2);
	stop_own();
	fclose(file);
	unlink(log_path);
}

Test(net_auth, tokens_cannot_begin_to_be_asked_for)
{
	start_own();
	struct client client = client_new();
	write_tokens("sha256:%s t read *\n", hash_of("t"));
	options.secrets.token_file = token_path;
	cr_assert(reload() == -1 && strstr(reload_error.message, "restart") != NULL, "%s", reload_error.message);
	is_served(&client);
	client_close(&client);
	stop_own();
}

/* ---- certificates ---- */

static char certificate_path[96], key_path[96];
static struct sockaddr_storage tcp_address;

/* The port that the system chose: that of the one TCP socket of this process that listens. */
static void find_port(struct sockaddr_in *ret_address)
{
	for (int fd = 3; fd < 1000; fd++) {
		int listens = 0;
		socklen_t len = sizeof(listens), address_len = sizeof(*ret_address);
		if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens &&
			getsockname(fd, (struct sockaddr *)ret_address, &address_len) == 0 &&
			ret_address->sin_family == AF_INET)
			return;
	}
	cr_assert_fail("nothing listens");
}

struct tls_client {
	SSL_CTX *context;
	SSL *ssl;
	int fd;
	char name[64]; /* whose certificate the server showed */
};

static struct tls_client tls_connect(void)
{
	struct sockaddr_in address;
	struct tls_client client = {.context = SSL_CTX_new(TLS_client_method()), .fd = socket(AF_INET, SOCK_STREAM, 0)};
	find_port(&address);
	cr_assert(connect(client.fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	client.ssl = SSL_new(client.context);
	SSL_set_fd(client.ssl, client.fd);
	cr_assert(SSL_connect(client.ssl) == 1, "no handshake");
	X509_NAME_get_text_by_NID(X509_get_subject_name(SSL_get0_peer_certificate(client.ssl)), NID_commonName,
		client.name, sizeof(client.name));
	return client;
}

/* The first bytes of the answer to hello, or to what else is asked. */
static void tls_ask(struct tls_client *client, enum method method)
{
	struct buf buf = {0};
	char answer[4096];
	size_t count;
	put(&buf, 1, method, NULL, KEY_PROTOCOL, 1, KEY_TOTAL, 0);
	cr_assert(SSL_write_ex(client->ssl, buf.data, buf.len, &count) == 1);
	buf_free(&buf);
	cr_assert(SSL_read_ex(client->ssl, answer, sizeof(answer), &count) == 1 && count > 8);
	cr_assert(memcmp(answer + 4, "\x94\x01\x01\xc0", 4) == 0, "an answer without an error");
}

static void tls_end(struct tls_client *client)
{
	(void)SSL_shutdown(client->ssl);
	SSL_free(client->ssl);
	SSL_CTX_free(client->context);
	close(client->fd);
}

static void write_text(const char *to, const char *text)
{
	FILE *file = fopen(to, "w");
	cr_assert(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

Test(net_auth, a_reload_renews_certificates_for_new_connections)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&tcp_address;
	in->sin_family = AF_INET;
	in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	snprintf(certificate_path, sizeof(certificate_path), "%s/c", dir);
	snprintf(key_path, sizeof(key_path), "%s/k", dir);
	tls_certificate_make("first", certificate_path, key_path);
	options.tcp_addresses = &tcp_address;
	options.tcp_count = 1;
	options.secrets.tls_certificate = certificate_path;
	options.secrets.tls_key = key_path;
	start_own();
	struct tls_client old = tls_connect();
	cr_assert(strcmp(old.name, "first") == 0, "%s", old.name);
	tls_ask(&old, METHOD_HELLO);

	tls_certificate_make("second", certificate_path, key_path);
	cr_assert(reload() == 0, "%s", reload_error.message);
	struct tls_client new = tls_connect();
	cr_assert(strcmp(new.name, "second") == 0, "%s", new.name);
	tls_ask(&new, METHOD_HELLO);
	tls_ask(&old, METHOD_PING);
	tls_end(&new);

	/* What is wrong changes nothing. */
	write_text(key_path, "nonsense");
	cr_assert(reload() == -1 && reload_error.code == ERR_CONFIG && strstr(reload_error.message, key_path) != NULL,
		"%s", reload_error.message);
	options.secrets.tls_certificate = options.secrets.tls_key = NULL;
	cr_assert(reload() == -1 && strstr(reload_error.message, "restart") != NULL, "%s", reload_error.message);
	options.secrets.tls_certificate = certificate_path;
	options.secrets.tls_key = key_path;
	options.secrets.tls_client_ca = certificate_path;
	cr_assert(reload() == -1 && strstr(reload_error.message, "tls_client_ca cannot become a file") != NULL, "%s",
		reload_error.message);
	options.secrets.tls_client_ca = NULL;
	new = tls_connect();
	cr_assert(strcmp(new.name, "second") == 0, "%s", new.name);
	tls_ask(&old, METHOD_PING);
	tls_end(&new);
	tls_end(&old);
	stop_own();
	unlink(certificate_path);
	unlink(key_path);
}

Test(net_auth, a_reload_takes_all_or_nothing)
{
	write_tokens("sha256:%s t read *\n", hash_of("old"));
	snprintf(certificate_path, sizeof(certificate_path), "%s/c", dir);
	snprintf(key_path, sizeof(key_path), "%s/k", dir);
	tls_certificate_make("first", certificate_path, key_path);
	options.secrets.token_file = token_path;
	options.secrets.tls_certificate = certificate_path;
	options.secrets.tls_key = key_path;
	start_own();
	struct client client = come_in("old");
	write_tokens("sha256:%s t read *\n", hash_of("new"));
	write_text(certificate_path, "nonsense");
	cr_assert(
		reload() == -1 && strstr(reload_error.message, "tls_certificate") != NULL, "%s", reload_error.message);
	is_served(&client);
	struct client another = come_in("old");
	client_close(&another);
	client_close(&client);
	stop_own();
	unlink(certificate_path);
	unlink(key_path);
}
