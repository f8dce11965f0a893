/*
 * fake_server_chaos: a server that does what it is asked, on a model, and answers as badly as a seed says.
 *
 * Owns the fake server, its model, and the answers that it holds back. Everything here but chaos_start, chaos_finished
 * and chaos_stop runs in the thread of the fake server.
 * Invariant: what it does is what the model says; appends of one connection are applied in the order in which they
 * came, whatever becomes of their answers. Nothing that it sends can be taken for the answer to another request: bytes
 * are garbled only where a client can tell.
 */
#ifndef IRONWALD_FAKE_SERVER_CHAOS_H
#define IRONWALD_FAKE_SERVER_CHAOS_H

#include <poll.h>

#include "fake_server_model.h"

#define HELD_MAX 16

struct chaos {
	struct fake fake; /* first: scripts are given a pointer to it */
	struct model model;
	uint64_t seed, random;
	int finished; /* connections */
	int closed;   /* by the client; with the lock */
	bool honest;  /* the next connection */
	unsigned fault_permille;
	bool mute; /* for the rest of the connection */
	struct buf held[HELD_MAX];
	unsigned held_count;
};

/* splitmix64 */
static inline uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static inline unsigned random_below(uint64_t *state, unsigned bound)
{
	return (unsigned)(random_next(state) % bound);
}

static inline unsigned below(struct chaos *x, unsigned bound)
{
	return random_below(&x->random, bound);
}

static inline void pause_ms(unsigned ms)
{
	(void)poll(NULL, 0, (int)ms);
}

/* Until the client has gone, or for that long. */
static inline void be_deaf_for(struct fake *f, unsigned ms)
{
	struct pollfd p = {.fd = f->fd, .events = POLLRDHUP};
	(void)poll(&p, 1, (int)ms);
}

/* The same without an end. Its FIN does not tell: it can be stuck behind what nobody reads. */
static inline void be_deaf(struct chaos *x)
{
	pthread_mutex_lock(&x->fake.lock);
	while (x->closed <= x->finished)
		pthread_cond_wait(&x->fake.changed, &x->fake.lock);
	pthread_mutex_unlock(&x->fake.lock);
}

static inline void hang_up(struct fake *f, bool reset)
{
	const struct linger now = {.l_onoff = 1, .l_linger = 0};
	if (reset)
		(void)setsockopt(f->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(f->fd);
	f->fd = -1;
}

/* ---- what can be wrong with an answer ---- */

static inline void send_split(struct chaos *x)
{
	size_t at = 0;
	while (at < answer_buf.len) {
		size_t n = 1 + below(x, (unsigned)(answer_buf.len - at < 40 ? answer_buf.len - at : 40));
		if (answer_buf.len - at > 4000)
			n = 3000;
		send_bytes(&x->fake, answer_buf.data + at, n);
		at += n;
		if (below(x, 4) == 0)
			pause_ms(1);
	}
	answer_buf.len = 0;
}

static inline void hold(struct chaos *x)
{
	if (x->held_count == HELD_MAX) {
		answer_flush(&x->fake);
		return;
	}
	x->held[x->held_count++] = answer_buf;
	answer_buf = (struct buf){0};
}

static inline void release_one(struct chaos *x)
{
	if (x->held_count == 0)
		return;
	unsigned i = below(x, x->held_count);
	send_bytes(&x->fake, x->held[i].data, x->held[i].len);
	buf_free(&x->held[i]);
	x->held[i] = x->held[--x->held_count];
}

static inline void garble(struct chaos *x)
{
	uint8_t *bytes = answer_buf.data;
	switch (below(x, 6)) {
	case 0: /* array and type */
		bytes[4 + below(x, 2)] ^= (uint8_t)(1u << below(x, 8));
		break;
	case 1: /* a length a little off, too short or too long */
		bytes[3] ^= (uint8_t)(1u << below(x, 6));
		break;
	case 2: /* a length over the limit */
		bytes[0] ^= (uint8_t)(4u << below(x, 5));
		break;
	case 3: /* the msgid: another generation, far from those in use */
		bytes[7] ^= 0x80;
		break;
	case 4: /* what says that a msgid follows */
		bytes[6] = 0xc1;
		break;
	default: /* neither nil nor a map, where the error is */
		bytes[11] = 0x07;
	}
	answer_flush(&x->fake);
}

/* Acknowledged, in a way that cannot be understood. */
static inline void send_spoiled(struct chaos *x)
{
	struct fake *f = &x->fake;
	answer_buf.len = 0;
	if (f->request.method == METHOD_APPEND_BATCH && below(x, 2) == 0) {
		answer_begin(f->request.msgid, 3);
		answer_u64(KEY_FIRST, 1);
		answer_u64(KEY_END, 1000000);
		answer_bool(KEY_DURABLE, true);
	} else {
		answer_begin(f->request.msgid, 1);
		answer_u64(KEY_TIMESTAMP, 1);
	}
	answer_done(f);
}

static inline void send_refusal(struct chaos *x, bool outcome_unknown)
{
	static const enum error_code codes[] = {ERR_BUSY, ERR_SHUTTING_DOWN, ERR_TOO_LARGE, ERR_IO};
	struct error e;
	enum error_code code = outcome_unknown ? ERR_IO : codes[below(x, 4)];
	if (code == ERR_IO) {
		error_set_io(&e, below(x, 2) ? ENOSPC : EIO, "write", "/a/segment");
		error_set_outcome(&e, outcome_unknown ? OUTCOME_UNKNOWN : OUTCOME_NONE);
	} else {
		error_set(&e, code, "made up");
	}
	answer_buf.len = 0;
	answer_error(&x->fake, x->fake.request.msgid, &e);
}

static inline void send_part(struct chaos *x)
{
	answer_buf.len = below(x, (unsigned)answer_buf.len);
	answer_flush(&x->fake);
	hang_up(&x->fake, below(x, 2));
}

/* ---- what is done with a request ---- */

enum fault {
	FAULT_REFUSED,
	FAULT_OUTCOME_UNKNOWN,
	FAULT_NOT_DONE, /* nor answered */
	FAULT_NOT_DONE_CLOSED,
	FAULT_DONE_HERE, /* all below: done first */
	FAULT_DELAYED = FAULT_DONE_HERE,
	FAULT_SPLIT,
	FAULT_HELD,
	FAULT_HELD_TOO,
	FAULT_NOT_ANSWERED,
	FAULT_MUTE,
	FAULT_TWICE,
	FAULT_STRANGER,
	FAULT_ABOUT_ALL,
	FAULT_NEWS,
	FAULT_CUT_SHORT,
	FAULT_OVERSIZED,
	FAULT_CLOSED,
	FAULT_RESET,
	FAULT_GARBLED,
	FAULT_SPOILED,
	FAULT_DEAF_FOR_A_WHILE,
	FAULT_DEAF,
	FAULT_TOTAL,
};

static inline void misbehave(struct chaos *x, enum fault fault)
{
	struct fake *f = &x->fake;
	struct error e;
	uint32_t msgid = f->request.msgid;
	uint64_t executed = x->model.executed;
	if (fault >= FAULT_DONE_HERE)
		model_execute(f, &x->model);
	switch (fault) {
	case FAULT_REFUSED:
		send_refusal(x, false);
		break;
	case FAULT_OUTCOME_UNKNOWN:
		if (below(x, 2))
			model_execute(f, &x->model);
		send_refusal(x, true);
		break;
	case FAULT_NOT_DONE:
		break;
	case FAULT_NOT_DONE_CLOSED:
	case FAULT_CLOSED:
		hang_up(f, false);
		break;
	case FAULT_RESET:
		hang_up(f, true);
		break;
	case FAULT_DELAYED:
		pause_ms(below(x, 60));
		answer_flush(f);
		break;
	case FAULT_SPLIT:
		send_split(x);
		break;
	case FAULT_HELD:
	case FAULT_HELD_TOO:
		hold(x);
		break;
	case FAULT_NOT_ANSWERED:
		break;
	case FAULT_MUTE:
		x->mute = true;
		break;
	case FAULT_TWICE:
		send_bytes(f, answer_buf.data, answer_buf.len);
		answer_flush(f);
		break;
	case FAULT_STRANGER:
		answer_buf.len = 0;
		answer_append(f, msgid ^ 0x80000000u, 5);
		break;
	case FAULT_ABOUT_ALL:
		answer_buf.len = 0;
		error_set(&e, ERR_BAD_REQUEST, "made up");
		answer_error(f, 0, &e);
		break;
	case FAULT_NEWS:
		answer_flush(f);
		send_notification(f, below(x, 3000));
		break;
	case FAULT_CUT_SHORT:
		send_part(x);
		break;
	case FAULT_OVERSIZED:
		send_bytes(f, below(x, 2) ? "\xff\xff\xff\xff\x94\x01" : "\x01\x00\x00\x01\x94\x01", 6);
		break;
	case FAULT_GARBLED:
		garble(x);
		break;
	case FAULT_SPOILED:
		if (x->model.executed > executed) /* else it would be a lie */
			send_spoiled(x);
		else
			answer_flush(f);
		break;
	case FAULT_DEAF_FOR_A_WHILE:
		be_deaf_for(f, below(x, 150));
		answer_flush(f);
		break;
	case FAULT_DEAF:
		be_deaf(x);
		break;
	case FAULT_TOTAL:
		break;
	}
	answer_buf.len = 0;
}

static inline void chaos_serve(struct chaos *x)
{
	struct fake *f = &x->fake;
	if (!next_request(f))
		return;
	MUST(f->request.method == METHOD_HELLO);
	answer_hello(f, 1, 1u << 20);
	while (f->fd >= 0 && next_request(f)) {
		enum fault fault = (enum fault)below(x, FAULT_TOTAL);
		if (below(x, 1000) < x->fault_permille && !x->mute) {
			misbehave(x, fault);
			continue;
		}
		model_execute(f, &x->model);
		if (x->mute)
			answer_buf.len = 0;
		else
			answer_flush(f);
		if (below(x, 2) && !x->mute)
			release_one(x);
	}
}

static inline void chaos_script(struct fake *f)
{
	static const unsigned permille[] = {10, 40, 150, 500};
	struct chaos *x = (struct chaos *)f;
	do {
		pthread_mutex_lock(&f->lock);
		bool honest = x->honest;
		pthread_mutex_unlock(&f->lock);
		x->random = x->seed * 1000003 + (uint64_t)x->finished;
		x->fault_permille = honest ? 0 : permille[below(x, 4)];
		x->mute = false;
		chaos_serve(x);
		while (x->held_count > 0)
			buf_free(&x->held[--x->held_count]);
		set_step(f, ++x->finished);
	} while (accept_next(f));
}

/* ---- for the test's own thread ---- */

static inline void chaos_start(struct chaos *x, uint64_t seed)
{
	if (seed % 2 == 0)
		fake_start(&x->fake, chaos_script);
	else
		fake_start_tcp(&x->fake, chaos_script);
}

/* What the next connection is to be. */
static inline void chaos_be(struct chaos *x, bool honest)
{
	pthread_mutex_lock(&x->fake.lock);
	x->honest = honest;
	pthread_mutex_unlock(&x->fake.lock);
}

/* After the client has closed its nth connection: until the server is done with it. The model is the caller's then. */
static inline void chaos_wait(struct chaos *x, int nth)
{
	pthread_mutex_lock(&x->fake.lock);
	x->closed = nth;
	pthread_cond_broadcast(&x->fake.changed);
	pthread_mutex_unlock(&x->fake.lock);
	wait_step(&x->fake, nth);
}

static inline void chaos_stop(struct chaos *x)
{
	fake_stop_listening(&x->fake);
	fake_join(&x->fake);
	model_free(&x->model);
}

#endif
