/*
 * engine: how fast the log on disk is without sockets, and what its writers did for it.
 *
 * What is in the lines or the object that is printed: see report(). Exit status: 0; 1 something failed; 2 usage.
 */
#include <inttypes.h>
#include <stdio.h>

#include "engine_drive.h"

static double per_second(uint64_t count, double seconds)
{
	return seconds > 0 ? (double)count / seconds : 0;
}

static double share_of(uint64_t part, uint64_t whole)
{
	return whole > 0 ? (double)part / (double)whole : 0;
}

/* appended: entries since the directory was opened, with those before the measurement and after it.
 * cpu_us_per_request: of the whole process; loop_cpu: the share of a core that the handing thread took. */
static void report_json(const struct engine_plan *plan, const struct drive_result *result, uint64_t appended)
{
	const struct drive_work *work = &result->work;
	double seconds = (double)result->elapsed_ns / 1e9;
	printf("{\"target\": \"engine\", \"mode\": \"%s\", \"sync_mode\": \"%s\", \"clients\": %" PRIu64
	       ", \"depth\": %" PRIu64 ", \"payload_bytes\": %" PRIu64 ", \"batch_count\": %" PRIu64
	       ", \"streams\": %" PRIu64 ", \"by_shard\": %s, \"seconds\": %.6f, \"requests\": %" PRIu64
	       ", \"entries\": %" PRIu64 ", \"appended\": %" PRIu64,
		engine_op_name(plan->op), sync_mode_name(plan->sync_mode), plan->clients_count, plan->depth,
		plan->payload_bytes, plan->batch_count, plan->streams_count, plan->by_shard ? "true" : "false", seconds,
		result->requests, result->entries, appended);
	printf(", \"requests_per_second\": %.1f, \"entries_per_second\": %.1f, \"mib_per_second\": %.2f"
	       ", \"p50_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f, \"max_us\": %.2f"
	       ", \"cpu_us_per_request\": %.3f, \"loop_cpu\": %.3f",
		per_second(result->requests, seconds), per_second(result->entries, seconds),
		per_second(result->bytes, seconds) / (1 << 20), latency_us_at(result->latency, 0.5),
		latency_us_at(result->latency, 0.99), latency_us_at(result->latency, 0.999),
		latency_us_at(result->latency, 1), share_of(result->process_cpu_ns, result->requests) / 1e3,
		share_of(result->loop_cpu_ns, result->elapsed_ns));
	printf(", \"groups\": %" PRIu64 ", \"journal_groups\": %" PRIu64
	       ", \"group_requests\": {\"mean\": %.2f, \"p50\": %" PRIu64 ", \"p99\": %" PRIu64 "}"
	       ", \"file_syncs\": %" PRIu64 ", \"dir_syncs\": %" PRIu64 ", \"journal_syncs\": %" PRIu64
	       ", \"sync_us_per_group\": %.1f}\n",
		work->groups, work->journal_groups, share_of(work->group_ops, work->groups), work->group_ops_p50,
		work->group_ops_p99, work->file_syncs, work->dir_syncs, work->journal_syncs,
		share_of(work->group_sync_ns, work->group_syncs) / 1e3);
}

static void report_lines(const struct engine_plan *plan, const struct drive_result *result)
{
	const struct drive_work *work = &result->work;
	double seconds = (double)result->elapsed_ns / 1e9;
	printf("engine %s %s: %" PRIu64 " clients x %" PRIu64 ", %" PRIu64 " B x %" PRIu64 ", %" PRIu64 " %s\n",
		sync_mode_name(plan->sync_mode), engine_op_name(plan->op), plan->clients_count, plan->depth,
		plan->payload_bytes, plan->batch_count, plan->streams_count, plan->by_shard ? "shards" : "streams");
	printf("%.0f requests/s, %.0f entries/s, %.1f MiB/s; p50 %.1f us, p99 %.1f us, p99.9 %.1f us, max %.1f us\n",
		per_second(result->requests, seconds), per_second(result->entries, seconds),
		per_second(result->bytes, seconds) / (1 << 20), latency_us_at(result->latency, 0.5),
		latency_us_at(result->latency, 0.99), latency_us_at(result->latency, 0.999),
		latency_us_at(result->latency, 1));
	printf("CPU %.2f us a request; the handing thread %.0f %% of a core\n",
		share_of(result->process_cpu_ns, result->requests) / 1e3,
		share_of(result->loop_cpu_ns, result->elapsed_ns) * 100);
	if (plan->op != ENGINE_APPEND)
		return;
	printf("%.0f groups/s, %.1f requests each (p50 up to %" PRIu64 ", p99 up to %" PRIu64
	       "), %.0f %% by the journal\n",
		per_second(work->groups, seconds), share_of(work->group_ops, work->groups), work->group_ops_p50,
		work->group_ops_p99, share_of(work->journal_groups, work->groups) * 100);
	printf("syncs/s: %.0f files, %.0f directories, %.0f journals; %.0f us for those of a group\n",
		per_second(work->file_syncs, seconds), per_second(work->dir_syncs, seconds),
		per_second(work->journal_syncs, seconds), share_of(work->group_sync_ns, work->group_syncs) / 1e3);
}

int main(int argc, char **argv)
{
	struct engine_plan plan;
	struct drive_result result;
	int parsed = engine_plan_parse(&plan, argc, argv), outcome = 0;
	if (parsed != 0)
		return parsed > 0 ? 0 : 2;
	struct drive *drive = drive_open(&plan);
	if (drive == NULL)
		return 1;
	if (plan.common.warmup_ns > 0)
		outcome = drive_run(drive, plan.common.warmup_ns, &result);
	if (outcome == 0)
		outcome = drive_run(drive, plan.common.duration_ns, &result);
	if (outcome == 0 && plan.common.json)
		report_json(&plan, &result, drive_entries_appended(drive));
	else if (outcome == 0)
		report_lines(&plan, &result);
	if (drive_close(drive) != 0)
		outcome = -1;
	return outcome == 0 ? 0 : 1;
}
