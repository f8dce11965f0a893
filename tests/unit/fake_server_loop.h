/*
 * fake_server_loop: the client's side of a test that drives its connection by poll(2), in one thread.
 *
 * Owns nothing: c and err are those of fake_server.h. Used by the test's own thread.
 * Invariant: it waits for what the library asks to be waited for, and for nothing else; so a wrong descriptor, event or
 * deadline shows as a test that hangs, and a library that is never content as one that turns too often.
 */
#ifndef IRONWALD_FAKE_SERVER_LOOP_H
#define IRONWALD_FAKE_SERVER_LOOP_H

#include <limits.h>
#include <poll.h>

#include "fake_server.h"

static unsigned turns; /* since the test began */

/* Waits, at most for max_ms (-1: as long as the library says), and processes: what ironwal_process returned. */
static inline int turn_within(int max_ms)
{
	unsigned wanted = ironwal_events(c), events = 0;
	int64_t wait_ms = ironwal_next_deadline_ms(c);
	struct pollfd p = {.fd = ironwal_fd(c)};
	p.events = (short)((wanted & IRONWAL_READABLE ? POLLIN : 0) | (wanted & IRONWAL_WRITABLE ? POLLOUT : 0));
	if (max_ms >= 0 && (wait_ms < 0 || wait_ms > max_ms))
		wait_ms = max_ms;
	cr_assert(wait_ms >= -1);
	cr_assert(poll(&p, 1, wait_ms > INT_MAX ? INT_MAX : (int)wait_ms) >= 0);
	if (p.revents & (POLLIN | POLLERR | POLLHUP))
		events |= IRONWAL_READABLE;
	if (p.revents & POLLOUT)
		events |= IRONWAL_WRITABLE;
	turns++;
	return ironwal_process(c, events, err);
}

static inline int turn(void)
{
	return turn_within(-1);
}

/* Begins to connect. */
static inline void begin(void (*script)(struct fake *), int64_t timeout_ms, const ironwal_options *given)
{
	ironwal_options options = IRONWAL_OPTIONS_INIT;
	if (given != NULL)
		options = *given;
	options.timeout_ms = timeout_ms;
	err = ironwal_error_new();
	cr_assert(err != NULL);
	fake_start(&fake, script);
	cr_assert(ironwal_connect_start(fake.address, &options, &c, err) == 0, "%s", ironwal_error_message(err));
}

/* Until it is ready or lost. */
static inline ironwal_state until_connected(void)
{
	while (ironwal_get_state(c) == IRONWAL_STATE_CONNECTING)
		(void)turn();
	return ironwal_get_state(c);
}

static inline void begin_ready(void (*script)(struct fake *), int64_t timeout_ms, const ironwal_options *given)
{
	begin(script, timeout_ms, given);
	cr_assert(until_connected() == IRONWAL_STATE_READY, "%s", ironwal_error_message(err));
}

/* The next result; fails if there is nothing in flight. */
static inline ironwal_result *next_result(void)
{
	ironwal_result *result;
	while (ironwal_next_result(c, &result) == 0) {
		cr_assert(ironwal_in_flight(c) > 0, "nothing is in flight");
		(void)turn();
	}
	return result;
}

/* This result is an error: of this code and fate, for this request. */
#define ASSERT_FAILED(result, request_id, error_code, error_fate)                                                      \
	do {                                                                                                           \
		ironwal_result *failed_ = (result);                                                                    \
		const ironwal_error *error_ = ironwal_result_error(failed_);                                           \
		cr_assert(ironwal_result_request_id(failed_) == (request_id), "another request's");                    \
		cr_assert(error_ != NULL, "no error");                                                                 \
		cr_assert(ironwal_error_get_code(error_) == (error_code), "%s: %s", ironwal_error_code_name(error_),   \
			ironwal_error_message(error_));                                                                \
		cr_assert(ironwal_error_fate(error_) == (error_fate), "fate: %s",                                      \
			ironwal_fate_name(ironwal_error_fate(error_)));                                                \
	} while (0)

#define ASSERT_APPENDED(result, request_id, entry_id)                                                                  \
	do {                                                                                                           \
		ironwal_append_result append_;                                                                         \
		ironwal_result *appended_ = (result);                                                                  \
		cr_assert(ironwal_result_request_id(appended_) == (request_id), "another request's");                  \
		cr_assert(ironwal_result_append(appended_, &append_) == 1, "%s",                                       \
			ironwal_error_message(ironwal_result_error(appended_)));                                       \
		cr_assert(append_.first == (entry_id) && append_.end == append_.first + 1);                            \
	} while (0)

#endif
