/*
 * ironwal bench: loads the server. The engine is client/bench; here is what a run is made of: a look at the server, a
 * prefill, a warmup, what is measured, and with --verify the reading back of all that was acknowledged.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "bench.h"
#include "client_error.h"
#include "client_token.h"
#include "frame.h"
#include "probe.h"

/* What the threads of the engine look at. */
static atomic_int stop = STOP_NOT;

static void on_interrupt(int number)
{
	int running = STOP_NOT;
	(void)number;
	/* Not over a STOP_NOW, which says more. */
	atomic_compare_exchange_strong(&stop, &running, STOP_SENDING);
}

/* A connection is a descriptor, and each thread has one besides. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* ---- before ---- */

static uint64_t prefill_requests(const struct bench *bench)
{
	uint64_t batch = bench->requests->entry_count[BENCH_PREFILL];
	return (bench->plan.prefill_count + batch - 1) / batch * bench->plan.names_count;
}

/* For all threads; each gets the same part. */
static size_t record_max(const struct bench *bench)
{
	const struct bench_plan *plan = &bench->plan;
	uint64_t threads_count = plan->threads_count;
	if (!plan->verify || bench->in_place)
		return 0;
	if (bench->count > ACKED_RECORDS_MAX || bench->warmup_ns > 0)
		return ACKED_RECORDS_MAX;
	/* Connections need not divide evenly, but none has twice the work of another; the first one does the prefill.
	 */
	uint64_t each = 2 * bench->count / threads_count + plan->connections_count * plan_slots_count(plan) + 1;
	if (plan->prefill_count > 0)
		each += prefill_requests(bench);
	uint64_t all = each * threads_count;
	return all < ACKED_RECORDS_MAX ? all : ACKED_RECORDS_MAX;
}

static int prepare(struct bench *bench)
{
	const struct bench_plan *plan = &bench->plan;
	if (probe_server(plan, &target_ironwald, &bench->facts, &bench->fault) != 0)
		return -1;
	bench->requests = requests_new(plan, &target_ironwald, bench->facts.shard_count);
	if (bench->requests == NULL)
		return fault_set(&bench->fault, FAULT_HERE, "out of memory for the requests");
	uint64_t bytes = bench->requests->frame_bytes_max - FRAME_LENGTH_BYTES;
	if (bytes > bench->facts.max_message_bytes)
		return fault_set(&bench->fault, FAULT_USAGE,
			"--batch and --payload make requests of %" PRIu64 " bytes, and the server takes %" PRIu64,
			bytes, bench->facts.max_message_bytes);
	bench->crew = crew_new(plan, bench->requests, record_max(bench), &stop, &bench->fault);
	return bench->crew != NULL ? 0 : -1;
}

static int find_what_is_there(struct bench *bench)
{
	uint64_t count = bench->requests->logs_count;
	struct extent *extents = calloc(count, sizeof(*extents));
	bool found = false;
	int result = extents == NULL ? fault_set(&bench->fault, FAULT_HERE, "out of memory") : 0;
	if (result == 0)
		result = probe_extents(&bench->plan, bench->requests, extents, &bench->fault);
	for (uint64_t i = 0; result == 0 && i < count; i++)
		found = found || extents[i].end > 0;
	if (result == 0 && found)
		crew_share_extents(bench->crew, extents);
	else if (result == 0)
		result = fault_set(&bench->fault, FAULT_HERE,
			"there is nothing to read in the streams: --prefill puts something there, --prefix names "
			"others");
	free(extents);
	return result;
}

/* ---- phases ---- */

static int phase(struct bench *bench, struct bench_live *live, const char *name, bool prefill, uint64_t duration_ns,
	uint64_t count, struct crew_result *ret_result)
{
	if (live != NULL)
		bench_live_phase(live, name);
	int result = crew_run(bench->crew, prefill, duration_ns, count, BENCH_TICK_NS,
		live != NULL ? bench_live_tick : NULL, live, ret_result, &bench->fault);
	complaints_merge(&bench->complaints, &ret_result->complaints);
	bench->unknown += ret_result->unknown;
	bench->checked += ret_result->checked;
	if (result == 0 && ret_result->record_full)
		bench->ending = BENCH_RECORD_FULL;
	if (result == 0 && atomic_load(&stop) != STOP_NOT)
		bench->ending = BENCH_INTERRUPTED;
	return result;
}

static int prefill(struct bench *bench, struct bench_live *live)
{
	int result = phase(bench, live, "prefill: ", true, UINT64_MAX, prefill_requests(bench), &bench->measured);
	bench->prefilled = bench->measured.figures[BENCH_PREFILL].entries;
	memset(&bench->measured, 0, sizeof(bench->measured));
	if (result == 0)
		crew_share_extents(bench->crew, NULL);
	return result;
}

static int load(struct bench *bench, struct bench_live *live)
{
	if (bench->in_place && find_what_is_there(bench) != 0)
		return -1;
	if (bench->plan.prefill_count > 0 && prefill(bench, live) != 0)
		return -1;
	if (bench->warmup_ns > 0 && bench->ending == BENCH_FINISHED) {
		int result = phase(bench, live, "warmup: ", false, bench->warmup_ns, UINT64_MAX, &bench->measured);
		memset(&bench->measured, 0, sizeof(bench->measured));
		if (result != 0)
			return -1;
	}
	if (bench->ending != BENCH_FINISHED)
		return 0;
	bench->is_measured = true;
	return phase(bench, live, "", false, bench->duration_ns, bench->count, &bench->measured);
}

static int verify(struct bench *bench, struct bench_live *live)
{
	if (!bench->plan.verify || bench->in_place)
		return 0;
	if (live != NULL)
		bench_live_phase(live, "reading back: ");
	int result = readback_run(&bench->plan, bench->requests, &bench->facts, crew_acked(bench->crew), bench->unknown,
		&stop, live != NULL ? bench_live_readback : NULL, live, &bench->readback, &bench->fault);
	bench->is_verified = result == 0 && !bench->readback.interrupted;
	if (bench->readback.interrupted)
		bench->ending = BENCH_INTERRUPTED;
	return result;
}

/* ---- after ---- */

static int fault_status(struct bench *bench)
{
	const struct fault *fault = &bench->fault;
	switch (fault->kind) {
	case FAULT_USAGE:
		return tool_usage(bench->tool, "%s", fault->text);
	case FAULT_CONNECT:
		cerr_set(bench->tool->error, IRONWAL_ERR_CONNECT, "%s", fault->text);
		return tool_failed(bench->tool, "connect", NULL, "--connect or IRONWAL_CONNECT names another address");
	case FAULT_LOST:
		cerr_set(bench->tool->error, IRONWAL_ERR_CONNECTION_LOST, "%s", fault->text);
		return tool_failed(bench->tool, "bench", NULL, NULL);
	default:
		return tool_failed_here(bench->tool, "bench: %s", fault->text);
	}
}

static int end_status(struct bench *bench)
{
	uint64_t errors = bench->complaints.count, mismatches = bench->readback.complaints.count;
	out_flush(); /* the report comes first */
	if (bench->fault.kind != FAULT_NONE)
		return fault_status(bench);
	if (mismatches > 0 && errors > 0)
		return tool_failed_here(bench->tool,
			"bench: %" PRIu64 " answers were errors or wrong, and reading back found %" PRIu64
			" mismatches",
			errors, mismatches);
	if (mismatches > 0)
		return tool_failed_here(bench->tool, "bench: reading back found %" PRIu64 " mismatches", mismatches);
	if (errors > 0)
		return tool_failed_here(bench->tool, "bench: %" PRIu64 " answers were errors or wrong", errors);
	return EXIT_OK;
}

static int bench_run(struct bench *bench)
{
	struct bench_live *live = bench_live_new();
	int result = prepare(bench);
	bool is_prepared = result == 0;
	if (result == 0)
		result = load(bench, live);
	if (result == 0)
		result = verify(bench, live);
	if (live != NULL)
		bench_live_clear(live);
	bench_live_free(live);
	if (result != 0)
		bench->ending = BENCH_CONNECTION_LOST;
	/* What could not begin has no figures. */
	if (is_prepared && (result == 0 || bench->is_measured))
		bench_report(bench);
	return end_status(bench);
}

static int run(struct tool *tool, int argc, char **argv)
{
	struct bench *bench = calloc(1, sizeof(*bench));
	if (bench == NULL)
		return tool_failed_here(tool, "out of memory");
	bench->tool = tool;
	int status = bench_options(bench, argc, argv);
	ironwal_options options;
	char *token = NULL;
	if (status == TOOL_GO_ON) {
		tool_client_options(tool, &options);
		bench->plan.options = &options;
		if (token_load(NULL, &options, &token, tool->error) != 0)
			status = tool_failed(tool, "connect", NULL, NULL);
		bench->plan.token = token;
	}
	if (status == TOOL_GO_ON) {
		struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND}, before;
		raise_descriptor_limit();
		sigaction(SIGINT, &action, &before);
		status = bench_run(bench);
		sigaction(SIGINT, &before, NULL);
	}
	crew_free(bench->crew);
	requests_free(bench->requests);
	free(bench);
	token_free(token);
	return status;
}

const struct command command_bench = {
	.name = "bench",
	.summary = "load the server and tell rates and latencies",
	.help = bench_help,
	.run = run,
};
