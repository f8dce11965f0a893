/*
 * bench: what the parts of `ironwal bench` share: what was asked for, and what came of it.
 *
 * Owns the engine (client/bench) of a run, from bench_run on. One thread, besides those of the engine, which are
 * running only inside bench_run.
 * Invariant: whatever way a run ends, what was measured until then can be reported.
 */
#ifndef IRONWAL_TOOL_BENCH_H
#define IRONWAL_TOOL_BENCH_H

#include "crew.h"
#include "readback.h"
#include "tool.h"

enum bench_ending {
	BENCH_FINISHED,
	BENCH_INTERRUPTED,     /* SIGINT */
	BENCH_RECORD_FULL,     /* --verify can record no more */
	BENCH_CONNECTION_LOST, /* fault says why */
};

struct bench {
	struct tool *tool;
	struct bench_plan plan;
	char *mix;				/* as it was given */
	uint64_t count, duration_ns, warmup_ns; /* UINT64_MAX: no bound; 0: no warmup */
	bool in_place;				/* what is read was there before: neither appends nor a prefill */

	struct server_facts facts;
	struct requests *requests;
	struct crew *crew;
	struct crew_result measured;
	uint64_t prefilled;	       /* entries */
	struct complaints complaints;  /* of all phases; those of the readback are its own */
	uint64_t unknown, checked;     /* of all phases */
	bool is_measured, is_verified; /* whether it came to that */
	struct readback_result readback;
	enum bench_ending ending;
	struct fault fault;
};

extern const char bench_help[];
/* TOOL_GO_ON, or the exit status. */
int bench_options(struct bench *bench, int argc, char **argv);

/* The line on a terminal while it runs; nothing where stderr is none (bench_live.c). */
struct bench_live;
#define BENCH_TICK_NS UINT64_C(500000000)
/* NULL: there is no terminal. phase: "warmup: ", or "". */
struct bench_live *bench_live_new(void);
void bench_live_free(struct bench_live *live);
void bench_live_phase(struct bench_live *live, const char *phase);
/* A crew_tick_cb and a readback_tick_cb, with the live as arg. */
void bench_live_tick(const struct figures figures[BENCH_OPS], uint64_t elapsed_ns, void *arg);
void bench_live_readback(const struct readback_result *so_far, void *arg);
/* Takes the line away. */
void bench_live_clear(struct bench_live *live);

/* On standard output (bench_report.c). */
void bench_report(const struct bench *bench);
/* Near a whole core: the figures may be those of the generator. */
#define BENCH_BOUND_SHARE 0.9

#endif
