/* What ironwal bench measured: a table for people, or one JSON object. */
#include <inttypes.h>
#include <string.h>

#include "bench.h"

static const char *ending_name(enum bench_ending ending)
{
	static const char *const names[] = {[BENCH_FINISHED] = "finished",
		[BENCH_INTERRUPTED] = "interrupted",
		[BENCH_RECORD_FULL] = "record full",
		[BENCH_CONNECTION_LOST] = "failed"};
	return names[ending];
}

static double per_second(const struct bench *bench, uint64_t count)
{
	return bench->measured.elapsed_ns > 0 ? (double)count * 1e9 / (double)bench->measured.elapsed_ns : 0;
}

static double us_at(const struct figures *figures, double share)
{
	return (double)histogram_at(&figures->latency_ns, share) / 1e3;
}

static bool was_bound(const struct bench *bench)
{
	return bench->measured.cpu_share_max > BENCH_BOUND_SHARE;
}

static void sum_up(const struct bench *bench, struct figures *ret_total)
{
	memset(ret_total, 0, sizeof(*ret_total));
	for (int op = 0; op < BENCH_MIXED_OPS; op++)
		figures_merge(ret_total, &bench->measured.figures[op]);
}

/* ---- for people ---- */

static void print_row(const struct bench *bench, const char *name, const struct figures *figures)
{
	out_format("%-8s %12" PRIu64 " %11.0f %11.0f %9.1f %9.0f %9.0f %9.0f %9.0f %9" PRIu64 "\n", name,
		figures->answers, per_second(bench, figures->answers), per_second(bench, figures->entries),
		per_second(bench, figures->bytes) / 1048576, us_at(figures, 0.5), us_at(figures, 0.99),
		us_at(figures, 0.999), (double)figures->latency_ns.max / 1e3, figures->errors);
}

static void print_load(const struct bench *bench)
{
	const struct bench_plan *plan = &bench->plan;
	char first[NAME_TEXT_BYTES], last[NAME_TEXT_BYTES];
	requests_name_text(plan, 0, first);
	requests_name_text(plan, plan->names_count - 1, last);
	out_format("server     %s, sync mode %s\n", bench->facts.server, bench->facts.sync_mode);
	out_format("load       ");
	out_count(plan->connections_count, "connection", "connections");
	out_format(" x %" PRIu64 " in flight, ", plan->pipeline);
	out_count(plan->threads_count, "thread", "threads");
	out_format("; %s ", plan->by_key ? "key" : "stream");
	out_name(first, strlen(first));
	if (plan->names_count > 1) {
		out_format(" to ");
		out_name(last, strlen(last));
	}
	out_format("\nentries    ");
	out_count(plan->payload_bytes, "byte", "bytes");
	out_format(", %s%s%s; %" PRIu64 " to an append, up to %" PRIu64 " to an iter\n",
		plan->random ? "random" : "all the same", plan->verify ? ", with checksums" : "",
		plan->sync ? ", synced each" : "", plan->batch_count, plan->iter_count);
	out_format("measured   %.3f s (%s), seed %" PRIu64 "\n\n", (double)bench->measured.elapsed_ns / 1e9,
		ending_name(bench->ending), plan->seed);
}

static void print_complaints(const struct complaints *complaints)
{
	for (size_t i = 0; i < complaints->kinds_count; i++)
		out_format("%-10s %" PRIu64 "\n", complaints->kinds[i].code, complaints->kinds[i].count);
	for (size_t i = 0; i < complaints->shown_count; i++) {
		out_format("  ");
		out_name(complaints->shown[i], strlen(complaints->shown[i]));
		out_format("\n");
	}
	if (complaints->count > complaints->shown_count)
		out_format("  ... and %" PRIu64 " more\n", complaints->count - complaints->shown_count);
}

static void print_verified(const struct bench *bench)
{
	const struct readback_result *readback = &bench->readback;
	if (!bench->plan.verify)
		return;
	out_format("checked    %" PRIu64 " entries as they were read\n", bench->checked);
	if (bench->in_place)
		return;
	if (bench->is_verified)
		out_format("verified   %" PRIu64 " entries of %" PRIu64 " that were acknowledged\n", readback->found,
			readback->expected);
	else
		out_format("verified   not all: %" PRIu64 " entries were read back\n", readback->found);
	print_complaints(&readback->complaints);
}

static void print_table(const struct bench *bench)
{
	const struct crew_result *measured = &bench->measured;
	struct figures total;
	print_load(bench);
	out_format("%-8s %12s %11s %11s %9s %9s %9s %9s %9s %9s\n", "", "ANSWERS", "PER SECOND", "ENTRIES/S", "MiB/S",
		"P50 us", "P99 us", "P99.9 us", "MAX us", "ERRORS");
	for (int op = 0; op < BENCH_MIXED_OPS; op++)
		if (bench->plan.weights[op] > 0 || measured->figures[op].answers + measured->figures[op].errors > 0)
			print_row(bench, bench_op_name((enum bench_op)op), &measured->figures[op]);
	sum_up(bench, &total);
	print_row(bench, "total", &total);
	out_format("\ngenerator  %.0f %% of a core", measured->cpu_share_sum * 100);
	if (bench->plan.threads_count > 1)
		out_format(", %.0f %% the busiest thread", measured->cpu_share_max * 100);
	out_format("\n");
	if (was_bound(bench))
		out_format("warning    a thread of the generator took over %.0f %% of a core: the figures may be its "
			   "own; use "
			   "more --threads\n",
			BENCH_BOUND_SHARE * 100);
	print_verified(bench);
	if (bench->complaints.count > 0) {
		out_format("errors     ");
		out_count(bench->complaints.count, "answer", "answers");
		out_format("\n");
		print_complaints(&bench->complaints);
	}
}

/* ---- JSON ---- */

static void put_parameters(struct json *json, const struct bench *bench)
{
	const struct bench_plan *plan = &bench->plan;
	json_key(json, "parameters");
	json_map(json);
	json_put_str(json, "address", plan->address);
	json_put_u64(json, "connections", plan->connections_count);
	json_put_u64(json, "pipeline", plan->pipeline);
	json_put_u64(json, "threads", plan->threads_count);
	json_put_u64(json, "payload_bytes", plan->payload_bytes);
	json_put_u64(json, "batch", plan->batch_count);
	json_put_bool(json, "random", plan->random);
	json_put_bool(json, "sync", plan->sync);
	json_put_u64(json, plan->by_key ? "keys" : "streams", plan->names_count);
	json_put_str(json, "prefix", plan->prefix);
	json_key(json, "mix");
	json_map(json);
	for (int op = 0; op < BENCH_MIXED_OPS; op++)
		json_put_u64(json, bench_op_name((enum bench_op)op), plan->weights[op]);
	json_map_end(json);
	json_put_u64(json, "iter_count", plan->iter_count);
	json_put_u64(json, "prefill", plan->prefill_count);
	if (bench->count != UINT64_MAX)
		json_put_u64(json, "count", bench->count);
	if (bench->duration_ns != UINT64_MAX)
		json_put_double(json, "duration_seconds", (double)bench->duration_ns / 1e9);
	json_put_double(json, "warmup_seconds", (double)bench->warmup_ns / 1e9);
	json_put_bool(json, "verify", plan->verify);
	json_put_u64(json, "seed", plan->seed);
	json_map_end(json);
}

static void put_figures(struct json *json, const struct bench *bench, const char *name, const struct figures *figures)
{
	json_key(json, name);
	json_map(json);
	json_put_u64(json, "answers", figures->answers);
	json_put_u64(json, "errors", figures->errors);
	json_put_u64(json, "entries", figures->entries);
	json_put_u64(json, "bytes", figures->bytes);
	json_put_double(json, "requests_per_second", per_second(bench, figures->answers));
	json_put_double(json, "entries_per_second", per_second(bench, figures->entries));
	json_put_double(json, "mib_per_second", per_second(bench, figures->bytes) / 1048576);
	json_put_double(json, "p50_us", us_at(figures, 0.5));
	json_put_double(json, "p99_us", us_at(figures, 0.99));
	json_put_double(json, "p999_us", us_at(figures, 0.999));
	json_put_double(json, "max_us", (double)figures->latency_ns.max / 1e3);
	json_map_end(json);
}

static void put_complaints(struct json *json, const struct complaints *complaints)
{
	json_key(json, "errors");
	json_map(json);
	for (size_t i = 0; i < complaints->kinds_count; i++)
		json_put_u64(json, complaints->kinds[i].code, complaints->kinds[i].count);
	json_map_end(json);
	json_key(json, "messages");
	json_array(json);
	for (size_t i = 0; i < complaints->shown_count; i++)
		json_str(json, complaints->shown[i]);
	json_array_end(json);
}

static void put_verified(struct json *json, const struct bench *bench)
{
	const struct readback_result *readback = &bench->readback;
	json_key(json, "verified");
	if (!bench->plan.verify) {
		json_null(json);
		return;
	}
	json_map(json);
	json_put_u64(json, "checked_entries", bench->checked);
	json_put_bool(json, "complete", bench->is_verified || bench->in_place);
	json_put_u64(json, "acknowledged_entries", readback->expected);
	json_put_u64(json, "found_entries", readback->found);
	json_put_u64(json, "unacknowledged_entries", readback->strays);
	json_put_u64(json, "mismatches", readback->complaints.count);
	put_complaints(json, &readback->complaints);
	json_map_end(json);
}

static void print_json(const struct bench *bench)
{
	const struct crew_result *measured = &bench->measured;
	struct json *json = json_new();
	struct figures total;
	sum_up(bench, &total);
	json_map(json);
	json_put_str(json, "server", bench->facts.server);
	json_put_str(json, "sync_mode", bench->facts.sync_mode);
	put_parameters(json, bench);
	json_put_str(json, "ended", ending_name(bench->ending));
	json_put_double(json, "seconds", (double)measured->elapsed_ns / 1e9);
	json_put_u64(json, "sent", measured->sent);
	json_put_u64(json, "prefilled_entries", bench->prefilled);
	json_key(json, "operations");
	json_map(json);
	for (int op = 0; op < BENCH_MIXED_OPS; op++)
		put_figures(json, bench, bench_op_name((enum bench_op)op), &measured->figures[op]);
	json_map_end(json);
	put_figures(json, bench, "total", &total);
	put_complaints(json, &bench->complaints);
	json_key(json, "generator");
	json_map(json);
	json_put_double(json, "cpu_share", measured->cpu_share_sum);
	json_put_double(json, "busiest_thread_share", measured->cpu_share_max);
	json_put_bool(json, "was_bound", was_bound(bench));
	json_put_u64(json, "wakeups", measured->wakeups);
	json_map_end(json);
	put_verified(json, bench);
	json_map_end(json);
	json_line(json);
	json_free(json);
}

void bench_report(const struct bench *bench)
{
	if (bench->tool->json)
		print_json(bench);
	else
		print_table(bench);
}
