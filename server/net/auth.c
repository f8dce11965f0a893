#include "auth.h"

#include <inttypes.h>
#include <stdlib.h>

#include "log.h"
#include "tries.h"

struct auth {
	struct token_set *set;
	struct tries *tries;
	uint64_t wrong_tokens, held_off;
	uint64_t logged_ns; /* when the last wrong token was */
};

int auth_new(const char *token_file, struct auth **ret_auth, struct error *err)
{
	struct auth *auth = calloc(1, sizeof(*auth));
	if (auth != NULL)
		auth->tries = tries_new();
	if (auth == NULL || auth->tries == NULL) {
		auth_free(auth);
		return error_set(err, ERR_CONFIG, "no memory for the tokens");
	}
	if (token_set_read(token_file, &auth->set, err) != 0) {
		auth_free(auth);
		return -1;
	}
	*ret_auth = auth;
	return 0;
}

void auth_free(struct auth *auth)
{
	if (auth == NULL)
		return;
	token_set_free(auth->set);
	tries_free(auth->tries);
	free(auth);
}

/* One line a second at most, so that who guesses does not fill the log. */
static void note_wrong(struct auth *auth, const struct transport_peer *peer, uint64_t now_ns)
{
	auth->wrong_tokens++;
	if (auth->logged_ns != 0 && now_ns < auth->logged_ns + NS_PER_SECOND)
		return;
	auth->logged_ns = now_ns;
	log_warn("net", "%s: a wrong token (%" PRIu64 " since the start)", peer->text, auth->wrong_tokens);
}

int auth_check(struct auth *auth, const struct transport_peer *peer, struct span token, uint64_t now_ns,
	const struct token **ret_token, struct error *err)
{
	uint8_t digest[TOKEN_DIGEST_BYTES];
	if (token.data == NULL)
		return error_set(err, ERR_UNAUTHORIZED,
			"hello: this server asks for a token: ask who runs it for one, and send it as token");
	uint64_t wait_s = tries_wait_s(auth->tries, peer, now_ns);
	if (wait_s > 0) {
		auth->held_off++;
		return error_set(err, ERR_BUSY,
			"hello: too many wrong tokens came from there, so this one was not looked at: connect again in "
			"%" PRIu64 " s",
			wait_s);
	}
	if (token_digest(token.data, token.len, digest) != 0)
		return error_set(err, ERR_BUSY, "hello: the token could not be checked: connect again later");
	const struct token *found = token_set_find(auth->set, digest);
	if (found == NULL) {
		tries_wrong(auth->tries, peer, digest, now_ns);
		note_wrong(auth, peer, now_ns);
		return error_set(err, ERR_UNAUTHORIZED,
			"hello: the token is not valid: ask who runs the server for one that is");
	}
	*ret_token = found;
	return 0;
}

struct token_set *auth_replace(struct auth *auth, struct token_set *set)
{
	struct token_set *old = auth->set;
	auth->set = set;
	return old;
}

const struct token *auth_again(const struct auth *auth, const struct token *token)
{
	const struct token *now = token_set_find(auth->set, token->digest);
	return now != NULL && token_same(now, token) ? now : NULL;
}

void auth_get_stats(const struct auth *auth, struct auth_stats *ret_stats)
{
	*ret_stats = (struct auth_stats){0};
	if (auth == NULL)
		return;
	*ret_stats = (struct auth_stats){
		.tokens = token_set_count(auth->set),
		.wrong_tokens = auth->wrong_tokens,
		.held_off = auth->held_off,
	};
}
