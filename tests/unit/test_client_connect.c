/*
 * How a connection of libironwal comes to be, in one thread with poll(2): nobody there, nobody who answers, refusals, a
 * hello in pieces, full backlogs, several addresses; and that no attempt leaves a descriptor behind.
 */
#include <dirent.h>
#include <fcntl.h>
#include <netdb.h>

#include "client_dial.h"
#include "fake_server_loop.h"

static unsigned open_fds(void)
{
	unsigned count = 0;
	DIR *dir = opendir("/proc/self/fd");
	cr_assert(dir != NULL);
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

static void connect_start(const char *address, int64_t timeout_ms)
{
	ironwal_options options = IRONWAL_OPTIONS_INIT;
	options.timeout_ms = timeout_ms;
	err = ironwal_error_new();
	cr_assert(err != NULL);
	cr_assert(ironwal_connect_start(address, &options, &c, err) == 0, "%s", ironwal_error_message(err));
	cr_assert(ironwal_get_state(c) == IRONWAL_STATE_CONNECTING && !ironwal_is_usable(c));
	cr_assert(ironwal_in_flight(c) == 0 && ironwal_shard_count(c) == 0);
	cr_assert(*ironwal_server(c) == '\0' && *ironwal_sync_mode(c) == '\0' && *ironwal_compression(c) == '\0');
}

/* It is lost, with this error, for good. */
static void assert_lost(ironwal_error_code code)
{
	uint32_t id;
	ironwal_result *result;
	ironwal_txn *txn;
	for (int i = 0; i < 2; i++) {
		cr_assert(ironwal_error_get_code(err) == code, "%s: %s", ironwal_error_code_name(err),
			ironwal_error_message(err));
		cr_assert(ironwal_error_fate(err) == IRONWAL_FATE_NOT_A_WRITE);
		cr_assert(!ironwal_error_connection_usable(err));
		cr_assert(ironwal_get_state(c) == IRONWAL_STATE_LOST && !ironwal_is_usable(c));
		cr_assert(ironwal_fd(c) == -1 && ironwal_events(c) == 0 && ironwal_next_deadline_ms(c) == -1);
		cr_assert(ironwal_next_result(c, &result) == 0 && ironwal_wait_result(c, &result, err) == 0);
		ironwal_error_clear(err);
		cr_assert(ironwal_process(c, IRONWAL_READABLE, err) == -1, "each time");
	}
	if (ironwal_shard_count(c) == 0) { /* it never was ready */
		cr_assert(ironwal_txn_begin(c, "s", 1, &txn, err) == -1);
		cr_assert(ironwal_error_get_code(err) == code, "%s", ironwal_error_message(err));
	}
	cr_assert(ironwal_submit_append(c, "s", 1, "e", 1, NULL, &id, err) == -1);
	cr_assert(ironwal_error_get_code(err) == code && ironwal_error_fate(err) == IRONWAL_FATE_NOT_SENT);
	ironwal_close(c);
	ironwal_error_free(err);
	c = NULL;
}

/* ---- nobody ---- */

/* A port that nobody listens on, as long as the socket is open. */
static int closed_port(uint16_t *ret_port)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert(bind(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0);
	cr_assert(getsockname(fd, (struct sockaddr *)&sin, &len) == 0);
	*ret_port = ntohs(sin.sin_port);
	return fd;
}

Test(client_connect, nobody_listens)
{
	char address[64];
	uint16_t port;
	unsigned before = open_fds();
	int fd = closed_port(&port);
	snprintf(address, sizeof(address), "tcp:127.0.0.1:%u", port);
	connect_start(address, 60000);
	cr_assert(until_connected() == IRONWAL_STATE_LOST);
	cr_assert(ironwal_error_errno(err) == ECONNREFUSED && ironwal_error_is_retriable(err));
	assert_lost(IRONWAL_ERR_CONNECT);
	close(fd);
	connect_start("unix:/no/such/socket", 60000);
	cr_assert(until_connected() == IRONWAL_STATE_LOST && ironwal_error_errno(err) == ENOENT);
	assert_lost(IRONWAL_ERR_CONNECT);
	cr_assert(open_fds() == before);
}

Test(client_connect, an_address_of_no_use_is_no_connection)
{
	err = ironwal_error_new();
	cr_assert(ironwal_connect_start("udp:1.2.3.4:5", NULL, &c, err) == -1);
	cr_assert(ironwal_error_get_code(err) == IRONWAL_ERR_INVALID_ARGUMENT);
	cr_assert(c == NULL);
	ironwal_error_free(err);
}

Test(client_connect, options_without_a_size_are_refused)
{
	ironwal_options options = {.timeout_ms = 1};
	err = ironwal_error_new();
	cr_assert(ironwal_connect("unix:/no/such/socket", &options, &c, err) == -1);
	cr_assert(ironwal_error_get_code(err) == IRONWAL_ERR_INVALID_ARGUMENT);
	ironwal_error_free(err);

	/* An expected_id that is passed over in silence would be worse. */
	ironwal_append_options append_options = {.has_expected_id = 1, .expected_id = 5};
	ironwal_shard_append_options shard_options = {.sync = 1};
	ironwal_read_options read_options = {.wait_ms = 1};
	const ironwal_key_value pair = {{"k", 1}, {"v", 1}};
	const ironwal_bytes entry = {"e", 1};
	ironwal_iterator *it;
	ironwal_entries *entries;
	ironwal_fate fate;
	uint32_t id;
	start(script_silent);
	cr_assert(ironwal_append(c, "s", 1, "e", 1, &append_options, NULL, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_INVALID_ARGUMENT, IRONWAL_FATE_NOT_SENT, 1);
	cr_assert(ironwal_submit_append(c, "s", 1, "e", 1, &append_options, &id, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_INVALID_ARGUMENT, IRONWAL_FATE_NOT_SENT, 1);
	cr_assert(ironwal_settle_append(c, "s", 1, &entry, 1, &append_options, &fate, NULL, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_INVALID_ARGUMENT, IRONWAL_FATE_UNKNOWN, 1);
	cr_assert(ironwal_shard_append_batch(c, &pair, 1, &shard_options, NULL, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_INVALID_ARGUMENT, IRONWAL_FATE_NOT_SENT, 1);
	cr_assert(ironwal_read(c, "s", 1, &read_options, &entries, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_INVALID_ARGUMENT, IRONWAL_FATE_NOT_A_WRITE, 1);
	cr_assert(ironwal_iterator_open(c, "s", 1, &read_options, &it, err) == -1);
	ASSERT_ERROR(IRONWAL_ERR_INVALID_ARGUMENT, IRONWAL_FATE_NOT_A_WRITE, 1);
	stop();
}

/* ---- somebody, who does not say hello ---- */

static void lost_by(void (*script)(struct fake *), int64_t timeout_ms, ironwal_error_code code)
{
	unsigned before = open_fds();
	uint64_t before_ns = clock_now_ns();
	fake_start(&fake, script);
	connect_start(fake.address, timeout_ms);
	cr_assert(until_connected() == IRONWAL_STATE_LOST);
	if (code == IRONWAL_ERR_TIMEOUT)
		cr_assert(clock_now_ns() - before_ns >= (uint64_t)timeout_ms * NS_PER_MS);
	assert_lost(code);
	fake_join(&fake);
	cr_assert(open_fds() == before);
}

static void script_busy(struct fake *f)
{
	struct error e;
	error_set(&e, ERR_BUSY, "too many connections");
	answer_error(f, 0, &e);
}

static void script_unauthorized(struct fake *f)
{
	struct error e;
	if (!next_request(f))
		return;
	error_set(&e, ERR_UNAUTHORIZED, "no");
	answer_error(f, f->request.msgid, &e);
	until_closed(f);
}

static void script_hangs_up(struct fake *f)
{
	(void)f;
}

static void script_garbage(struct fake *f)
{
	send_bytes(f, "SSH-2.0-OpenSSH\r\n", 17);
	until_closed(f);
}

Test(client_connect, who_does_not_say_hello)
{
	lost_by(until_closed, 60, IRONWAL_ERR_TIMEOUT);
	lost_by(until_closed, 0, IRONWAL_ERR_TIMEOUT);
	lost_by(script_busy, 60000, IRONWAL_ERR_BUSY);
	lost_by(script_unauthorized, 60000, IRONWAL_ERR_UNAUTHORIZED);
	lost_by(script_hangs_up, 60000, IRONWAL_ERR_CONNECTION_LOST);
	lost_by(script_garbage, 60000, IRONWAL_ERR_PROTOCOL);
}

static void script_hello_in_bytes(struct fake *f)
{
	f->one_byte_at_a_time = true;
	hello(f);
	expect(f, METHOD_APPEND);
	answer_append(f, f->request.msgid, 3);
	until_closed(f);
	set_step(f, 1);
}

Test(client_connect, hello_a_byte_at_a_time_and_every_state_after_the_other)
{
	uint32_t id;
	fake_start_tcp(&fake, script_hello_in_bytes);
	connect_start(fake.address, 60000);
	while (ironwal_get_state(c) == IRONWAL_STATE_CONNECTING) {
		cr_assert(ironwal_fd(c) >= -1 && ironwal_next_deadline_ms(c) >= 0);
		cr_assert(turn() == 0, "%s", ironwal_error_message(err));
	}
	cr_assert(ironwal_get_state(c) == IRONWAL_STATE_READY && ironwal_fd(c) >= 0);
	cr_assert(strcmp(ironwal_server(c), "fake/1.2.3") == 0 && ironwal_shard_count(c) == 4);
	cr_assert(turns < 1000, "%u turns", turns);
	cr_assert(ironwal_submit_append(c, "s", 1, "e", 1, NULL, &id, err) == 0);
	ASSERT_APPENDED(next_result(), id, 3);
	shutdown(ironwal_fd(c), SHUT_WR); /* a test may; the server sees the end and hangs up */
	while (turn() == 0)
		;
	assert_lost(IRONWAL_ERR_CONNECTION_LOST);
	wait_step(&fake, 1);
	fake_join(&fake);
}

/* ---- full ---- */

#define FILLERS_MAX 64

/* A Unix socket whose backlog is full, and those that fill it. */
static int fill_backlog(char *dir, char *address, int *fillers)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int count = 0, listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	strcpy(dir, "/tmp/ironwal-connect-XXXXXX");
	cr_assert(mkdtemp(dir) != NULL);
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/s", dir);
	sprintf(address, "unix:%s", sun.sun_path);
	cr_assert(bind(listener, (struct sockaddr *)&sun, sizeof(sun)) == 0 && listen(listener, 1) == 0);
	for (;;) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		cr_assert(fd >= 0 && count < FILLERS_MAX);
		if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) != 0) {
			cr_assert(errno == EAGAIN);
			close(fd);
			break;
		}
		fillers[count++] = fd;
	}
	fillers[count] = -1;
	return listener;
}

static void empty_backlog(int listener, int *fillers)
{
	for (int i = 0; fillers[i] >= 0; i++) {
		int fd = accept(listener, NULL, NULL);
		cr_assert(fd >= 0);
		close(fd);
		close(fillers[i]);
	}
}

static void assert_waits_for_room(int64_t timeout_ms)
{
	turns = 0;
	uint64_t before_ns = clock_now_ns();
	while (ironwal_get_state(c) == IRONWAL_STATE_CONNECTING && clock_now_ns() - before_ns < 200 * NS_PER_MS) {
		(void)turn();
		if (ironwal_get_state(c) == IRONWAL_STATE_CONNECTING)
			cr_assert(ironwal_fd(c) == -1 && ironwal_events(c) == 0, "there is nothing to watch");
	}
	cr_assert(turns > 1 && turns < 60, "%u turns in %lld ms", turns, (long long)timeout_ms);
}

Test(client_connect, a_full_backlog_until_the_deadline)
{
	char dir[64], address[128];
	int fillers[FILLERS_MAX + 1];
	unsigned before = open_fds();
	int listener = fill_backlog(dir, address, fillers);
	connect_start(address, 100);
	assert_waits_for_room(100);
	cr_assert(until_connected() == IRONWAL_STATE_LOST);
	assert_lost(IRONWAL_ERR_TIMEOUT);
	ironwal_options options = IRONWAL_OPTIONS_INIT;
	options.timeout_ms = 50;
	cr_assert(ironwal_connect(address, &options, &c, NULL) == -1, "and for those who wait");
	empty_backlog(listener, fillers);
	close(listener);
	cr_assert(open_fds() == before);
	unlink(address + 5);
	rmdir(dir);
}

static void script_says_hello(struct fake *f)
{
	hello(f);
	until_closed(f);
}

Test(client_connect, a_full_backlog_until_there_is_room)
{
	int fillers[FILLERS_MAX + 1];
	fake_init(&fake, script_says_hello);
	fake.listener = fill_backlog(fake.dir, fake.address, fillers);
	connect_start(fake.address, -1);
	assert_waits_for_room(-1);
	cr_assert(ironwal_get_state(c) == IRONWAL_STATE_CONNECTING);
	cr_assert(ironwal_next_deadline_ms(c) >= 0, "without a deadline too it has to try again");
	empty_backlog(fake.listener, fillers);
	cr_assert(pthread_create(&fake.thread, NULL, fake_main, &fake) == 0);
	cr_assert(until_connected() == IRONWAL_STATE_READY, "%s", ironwal_error_message(err));
	stop();
}

Test(client_connect, closed_on_the_way)
{
	unsigned before = open_fds();
	int fillers[FILLERS_MAX + 1];
	char dir[64], address[128];
	int listener = fill_backlog(dir, address, fillers);
	connect_start(address, 60000);
	(void)turn();
	ironwal_close(c); /* while it waits for room */
	empty_backlog(listener, fillers);
	for (int steps = 0; steps < 4; steps++) { /* and after each step, up to waiting for hello */
		ironwal_error_free(err);
		connect_start(address, 60000);
		for (int i = 0; i < steps; i++)
			(void)turn_within(1);
		ironwal_close(c);
		int fd = steps > 0 ? accept(listener, NULL, NULL) : -1;
		cr_assert(steps == 0 || fd >= 0);
		close(fd);
	}
	ironwal_error_free(err);
	close(listener);
	unlink(address + 5);
	rmdir(dir);
	cr_assert(open_fds() == before);
}

/* ---- several addresses ---- */

/* 127.0.0.x: one where nobody listens, one that swallows what comes, one that answers. */
static void address_of(struct sockaddr_in *sin, struct addrinfo *info, unsigned last_byte, uint16_t port)
{
	*sin = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
	sin->sin_addr.s_addr = htonl(0x7f000000u + last_byte);
	*info = (struct addrinfo){.ai_family = AF_INET, .ai_addr = (struct sockaddr *)sin, .ai_addrlen = sizeof(*sin)};
}

static int listen_on(unsigned last_byte, int backlog, uint16_t *port)
{
	struct sockaddr_in sin;
	struct addrinfo info;
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	address_of(&sin, &info, last_byte, 0);
	cr_assert(bind(fd, info.ai_addr, len) == 0 && listen(fd, backlog) == 0);
	cr_assert(getsockname(fd, (struct sockaddr *)&sin, &len) == 0);
	*port = ntohs(sin.sin_port);
	return fd;
}

/* As dial_start leaves it, with these addresses in place of those of a resolver. */
static void dial_list(struct dial *dial, struct addrinfo *infos, unsigned count, uint64_t deadline_ns)
{
	const ironwal_options options = IRONWAL_OPTIONS_INIT;
	cr_assert(dial_start(dial, NULL, "tcp:127.0.0.1:1", &options, deadline_ns, err) == 0);
	freeaddrinfo(dial->list);
	for (unsigned i = 0; i < count; i++)
		infos[i].ai_next = i + 1 < count ? &infos[i + 1] : NULL;
	dial->list = NULL; /* not the resolver's: dial_end shall not free it */
	dial->at = infos;
	dial->left = count;
}

static enum dial_status finish(struct dial *dial)
{
	enum dial_status status;
	while ((status = dial_step(dial, err)) == DIAL_WAITING)
		(void)deadline_poll(dial_fd(dial), POLLOUT, dial_deadline_ns(dial));
	return status;
}

Test(client_connect, every_address_is_tried)
{
	struct sockaddr_in sins[3];
	struct addrinfo infos[3];
	struct dial dial;
	uint16_t closed, swallowing, good;
	unsigned before = open_fds();
	int fillers[8], filled = 0;
	err = ironwal_error_new();
	int closed_fd = closed_port(&closed), swallower = listen_on(2, 0, &swallowing),
	    listener = listen_on(3, 8, &good);

	/* A backlog that is full drops what comes. */
	address_of(&sins[1], &infos[1], 2, swallowing);
	for (; filled < 4; filled++) {
		fillers[filled] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)connect(fillers[filled], infos[1].ai_addr, sizeof(sins[1]));
	}
	address_of(&sins[0], &infos[0], 1, closed);
	address_of(&sins[2], &infos[2], 3, good);
	uint64_t begin_ns = clock_now_ns();
	dial_list(&dial, infos, 3, begin_ns + 2000 * NS_PER_MS);
	cr_assert(dial_step(&dial, err) == DIAL_WAITING, "for the first one, or the one that swallows");
	cr_assert(dial_deadline_ns(&dial) < dial.deadline_ns, "which has its share of the time");
	cr_assert(finish(&dial) == DIAL_CONNECTED, "%s", ironwal_error_message(err));
	/* Two were left when it came to the one that swallows: it had about half of the time. */
	cr_assert(clock_now_ns() - begin_ns >= 900 * NS_PER_MS);
	close(dial.fd);
	dial.fd = -1;
	dial_end(&dial);

	/* Those that fail, one after the other; the last one's error is told. */
	dial_list(&dial, infos, 2, clock_now_ns() + 100 * NS_PER_MS);
	cr_assert(finish(&dial) == DIAL_FAILED);
	cr_assert(ironwal_error_get_code(err) == IRONWAL_ERR_TIMEOUT);
	dial_end(&dial);
	dial_list(&dial, infos, 1, DEADLINE_NEVER);
	cr_assert(finish(&dial) == DIAL_FAILED);
	cr_assert(ironwal_error_get_code(err) == IRONWAL_ERR_CONNECT && ironwal_error_errno(err) == ECONNREFUSED);
	dial_end(&dial);

	for (int i = 0; i < filled; i++)
		close(fillers[i]);
	close(closed_fd);
	close(swallower);
	close(listener);
	cr_assert(open_fds() == before);
	ironwal_error_free(err);
}

Test(client_connect, no_descriptors_left)
{
	struct rlimit limit;
	unsigned before = open_fds();
	fake_start_tcp(&fake, script_says_hello);
	cr_assert(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	rlim_t soft = limit.rlim_cur;
	connect_start(fake.address, 60000);
	limit.rlim_cur = 3; /* below what is open: a new one cannot be */
	cr_assert(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	ironwal_state state = until_connected();
	limit.rlim_cur = soft;
	cr_assert(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	cr_assert(state == IRONWAL_STATE_LOST && ironwal_error_errno(err) == EMFILE);
	assert_lost(IRONWAL_ERR_CONNECT);
	connect_start(fake.address, 60000);
	cr_assert(until_connected() == IRONWAL_STATE_READY);
	stop();
	cr_assert(open_fds() == before);
}

/* Where localhost is both ::1 and 127.0.0.1, and only the second one listens. */
Test(client_connect, a_host_with_two_addresses)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;
	bool v6 = false, v4 = false;
	if (getaddrinfo("localhost", NULL, &hints, &list) == 0) {
		for (struct addrinfo *a = list; a != NULL; a = a->ai_next) {
			v6 |= a->ai_family == AF_INET6;
			v4 |= a->ai_family == AF_INET;
		}
		freeaddrinfo(list);
	}
	if (!v4 || !v6)
		cr_skip_test("localhost has not both kinds of address here");
	fake_start_tcp(&fake, script_says_hello);
	char address[64];
	snprintf(address, sizeof(address), "tcp:localhost:%s", strrchr(fake.address, ':') + 1);
	connect_start(address, 60000);
	cr_assert(until_connected() == IRONWAL_STATE_READY, "%s", ironwal_error_message(err));
	cr_assert(strcmp(ironwal_address(c), address) == 0);
	stop();
}
