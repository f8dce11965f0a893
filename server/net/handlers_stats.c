/*
 * handlers_stats: what an operator asks first, as one map of maps. Units are in the names; rows without a unit are
 * counts since the start, or, where the name says no event, gauges.
 */
#include <inttypes.h>
#include <stdio.h>

#include "checkpoint.h"
#include "clock.h"
#include "handlers.h"

#define NS_PER_US 1000

/* Room left for what follows the list of writers, which is cut there. */
#define STATS_TAIL_BYTES 16384
#define WRITER_BYTES_MAX 4096

struct row {
	const char *name;
	uint64_t value;
};

#define COUNT_OF(rows) (sizeof(rows) / sizeof((rows)[0]))

static void write_rows(struct mp_writer *writer, const struct row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		mp_write_str(writer, rows[i].name);
		mp_write_u64(writer, rows[i].value);
	}
}

static void write_row_map(struct mp_writer *writer, const char *name, const struct row *rows, size_t count)
{
	mp_write_str(writer, name);
	mp_write_map(writer, count);
	write_rows(writer, rows, count);
}

/* unit: what a value is divided by. */
static void write_histogram(
	struct mp_writer *writer, const char *name, const struct histogram *histogram, uint64_t unit)
{
	const struct row rows[] = {
		{"count", histogram->count},
		{"mean", histogram->count == 0 ? 0 : histogram->sum / histogram->count / unit},
		{"p50", histogram_percentile(histogram, 50) / unit},
		{"p99", histogram_percentile(histogram, 99) / unit},
		{"max", histogram->max / unit},
	};
	write_row_map(writer, name, rows, COUNT_OF(rows));
}

static void write_server(struct mp_writer *writer, const struct net *net)
{
	mp_write_str(writer, "server");
	mp_write_map(writer, 5);
	mp_write_str(writer, "version");
	mp_write_str(writer, IRONWALD_VERSION);
	mp_write_str(writer, "sync_mode");
	mp_write_str(writer, net->options->sync_mode);
	mp_write_str(writer, "compression");
	mp_write_str(writer, net->options->compression);
	mp_write_str(writer, "shard_count");
	mp_write_u64(writer, engine_shard_count(net->engine));
	mp_write_str(writer, "uptime_seconds");
	mp_write_u64(writer, (clock_now_ns() - net->started_ns) / NS_PER_SECOND);
}

bool net_refusing(const struct net *net, uint32_t writer, char ret_line[NET_REFUSING_MAX])
{
	if (engine_writer_failed(net->engine, writer) == NULL)
		return false;
	struct writer_stats stats;
	engine_writer_stats(net->engine, writer, &stats);
	snprintf(ret_line, NET_REFUSING_MAX,
		"%" PRIu64 " of the %" PRIu64 " shards of writer-%" PRIu32 " take no writes", stats.failed_shards,
		stats.shards, writer);
	return true;
}

void net_health(const struct net *net, struct health_report *ret_report)
{
	char line[NET_REFUSING_MAX];
	uint32_t writer = 0, writers = engine_writer_count(net->engine);
	health_report(net->health, ret_report);
	while (writer < writers && !net_refusing(net, writer, line))
		writer++;
	if (writer < writers)
		snprintf(ret_report->reason, sizeof(ret_report->reason), "%s after: %.120s", line,
			engine_writer_failed(net->engine, writer));
	else if (net->stopping)
		snprintf(ret_report->reason, sizeof(ret_report->reason), "it stops");
	ret_report->ready = ret_report->ready && writer == writers && !net->stopping;
}

static void write_health(struct mp_writer *writer, const struct net *net)
{
	struct health_report report;
	net_health(net, &report);
	const struct row rows[] = {
		{"disk_waits", report.disk_waits},
		{"disk_waits_us", report.disk_wait_ns / NS_PER_US},
		{"disk_waits_now", report.disk_waits_now},
	};
	mp_write_str(writer, "health");
	mp_write_map(writer, 3 + COUNT_OF(rows));
	mp_write_str(writer, "alive");
	mp_write_bool(writer, report.alive);
	mp_write_str(writer, "ready");
	mp_write_bool(writer, report.ready);
	mp_write_str(writer, "reason");
	mp_write_str(writer, report.reason);
	write_rows(writer, rows, COUNT_OF(rows));
}

static void write_connections(struct mp_writer *writer, const struct net *net)
{
	struct conn_group_stats conns;
	conn_group_stats(net->conns, &conns);
	const struct row rows[] = {
		{"current", conns.connections},
		{"max", net->options->max_connections},
		{"accepted", net->stats.connections_accepted},
		{"refused", net->stats.connections_refused},
		{"accept_errors", net->stats.accept_errors},
		{"protocol_errors", conns.protocol_errors},
		{"timeouts", conns.timeouts},
		{"received_bytes", conns.bytes_in},
		{"sent_bytes", conns.bytes_out},
		{"inflight_bytes", conns.inflight_bytes},
		{"receive_buffer_bytes", conns.receive_bytes},
		{"max_inflight_bytes_total", net->options->max_inflight_bytes_total},
		{"waiting_iters", waiters_count(net->waiters)},
		{"reads_on_loop", net->stats.reads_on_loop},
		{"reads_in_pool", net->stats.reads_in_pool},
		{"pool_reads_now", net->pool_reads},
	};
	write_row_map(writer, "connections", rows, COUNT_OF(rows));
}

static void write_access(struct mp_writer *writer, const struct net *net)
{
	struct auth_stats stats;
	struct tls_stats tls;
	auth_get_stats(net->auth, &stats);
	tls_get_stats(net->tls, &tls);
	const struct row rows[] = {
		{"tokens", stats.tokens},
		{"wrong_tokens", stats.wrong_tokens},
		{"held_off", stats.held_off},
		{"tls_handshakes", tls.handshakes},
		{"tls_failures", tls.failures},
	};
	write_row_map(writer, "access", rows, COUNT_OF(rows));
}

static void write_requests(struct mp_writer *writer, const struct net *net)
{
	size_t count = 0;
	for (size_t i = 0; i <= METHOD_UNKNOWN; i++)
		count += net->stats.methods[i].latency_ns.count > 0;
	mp_write_str(writer, "requests");
	mp_write_map(writer, count);
	for (size_t i = 0; i <= METHOD_UNKNOWN; i++) {
		const struct method_stats *method = &net->stats.methods[i];
		if (method->latency_ns.count == 0)
			continue;
		mp_write_str(writer, i == METHOD_UNKNOWN ? "unknown" : method_name((enum method)i));
		mp_write_map(writer, 3);
		mp_write_str(writer, "count");
		mp_write_u64(writer, method->latency_ns.count);
		mp_write_str(writer, "errors");
		mp_write_u64(writer, method->errors);
		write_histogram(writer, "latency_us", &method->latency_ns, NS_PER_US);
	}
}

static void write_errors(struct mp_writer *writer, const struct net *net)
{
	size_t count = 0;
	for (size_t i = 1; i < ERR_OTHER; i++)
		count += net->stats.errors[i] > 0;
	mp_write_str(writer, "errors");
	mp_write_map(writer, count);
	for (size_t i = 1; i < ERR_OTHER; i++) {
		if (net->stats.errors[i] == 0)
			continue;
		mp_write_str(writer, error_code_name((enum error_code)i));
		mp_write_u64(writer, net->stats.errors[i]);
	}
}

static void write_engine(struct mp_writer *writer, const struct engine_stats *stats)
{
	const struct row rows[] = {
		{"writers", stats->writer_count},
		{"streams", stats->streams},
		{"segments", stats->segments},
		{"segment_bytes", stats->segment_bytes},
		{"open_segments", stats->open_segments},
		{"open_segments_max", stats->open_segments_max},
		{"block_cache_hits", stats->block_cache_hits},
		{"block_cache_misses", stats->block_cache_misses},
		{"block_cache_bytes", stats->block_cache_bytes},
		{"entries_read", stats->entries_read},
		{"read_bytes", stats->bytes_read},
		{"damage_found", stats->damage_found},
		{"segments_unlinked", stats->segments_unlinked},
		{"filled_ahead_bytes", stats->bytes_filled_ahead},
		{"disk_total_bytes", stats->space.total_bytes},
		{"disk_free_bytes", stats->space.free_bytes},
	};
	write_row_map(writer, "engine", rows, COUNT_OF(rows));
}

static void write_recovery(struct mp_writer *writer, const struct recovery_stats *stats)
{
	const struct row rows[] = {
		{"duration_us", stats->duration_ns / NS_PER_US},
		{"streams", stats->streams},
		{"segments", stats->segments},
		{"journal_records", stats->journal_records},
		{"journal_ops", stats->journal_ops},
		{"tails_read", stats->tails_read},
		{"tail_read_bytes", stats->tail_bytes_read},
		{"torn_tails_cut", stats->torn_tails_cut},
		{"torn_cut_bytes", stats->torn_bytes_cut},
		{"rot_found", stats->rot_found},
		{"files_set_aside", stats->files_set_aside},
		{"entries_rewritten", stats->entries_rewritten},
	};
	mp_write_str(writer, "recovery");
	mp_write_map(writer, COUNT_OF(rows) + 1);
	mp_write_str(writer, "clean_start");
	mp_write_bool(writer, stats->clean_start);
	write_rows(writer, rows, COUNT_OF(rows));
}

static void write_writer(struct mp_writer *writer, uint32_t number, const struct writer_stats *stats)
{
	const struct row rows[] = {
		{"shards", stats->shards},
		{"failed_shards", stats->failed_shards},
		{"queue_depth", stats->queue_depth},
		{"appends", stats->appends},
		{"batches", stats->batches},
		{"entries", stats->entries},
		{"entry_bytes", stats->bytes},
		{"conflicts", stats->conflicts},
		{"truncates", stats->truncates},
		{"syncs_asked", stats->syncs_asked},
		{"groups", stats->groups},
		{"journal_groups", stats->journal_groups},
		{"file_syncs", stats->file_syncs},
		{"dir_syncs", stats->dir_syncs},
		{"journal_syncs", stats->journal_syncs},
		{"held_bytes", stats->held_bytes},
		{"rotations", stats->rotations},
		{"no_space_errors", stats->no_space_errors},
	};
	mp_write_map(writer, 3 + COUNT_OF(rows) + 3);
	mp_write_str(writer, "writer");
	mp_write_u64(writer, number);
	mp_write_str(writer, "failed");
	mp_write_bool(writer, stats->failed);
	mp_write_str(writer, "failed_reason");
	mp_write_str(writer, stats->failed_reason);
	write_rows(writer, rows, COUNT_OF(rows));
	write_histogram(writer, "group_requests", &stats->group_ops, 1);
	write_histogram(writer, "sync_us", &stats->sync_ns, NS_PER_US);
	write_histogram(writer, "queue_us", &stats->queue_ns, NS_PER_US);
}

static void write_checkpoints(struct mp_writer *writer, const struct net *net)
{
	struct checkpoint_stats stats;
	engine_checkpoint_stats(net->engine, &stats);
	const struct row rows[] = {
		{"count", stats.count},
		{"records", stats.records},
		{"log_bytes", stats.bytes},
		{"damage_found", stats.damage_found},
		{"created", stats.created},
		{"loaded", stats.loaded},
		{"groups", stats.groups},
		{"compactions", stats.compactions},
	};
	mp_write_str(writer, "checkpoints");
	mp_write_map(writer, 2 + COUNT_OF(rows) + 1);
	mp_write_str(writer, "failed");
	mp_write_bool(writer, stats.failed);
	mp_write_str(writer, "failed_reason");
	mp_write_str(writer, stats.failed_reason);
	write_rows(writer, rows, COUNT_OF(rows));
	write_histogram(writer, "sync_us", &stats.sync_ns, NS_PER_US);
}

/* Shard n belongs to writer n modulo the number of writers. */
static void write_writers(struct mp_writer *writer, const struct net *net, uint32_t writer_count)
{
	mp_write_str(writer, "writers");
	size_t hole = mp_hole_array(writer);
	uint32_t written = 0;
	while (written < writer_count &&
		frame_bytes(writer) + WRITER_BYTES_MAX + STATS_TAIL_BYTES < net->options->max_message_bytes) {
		struct writer_stats stats;
		engine_writer_stats(net->engine, written, &stats);
		write_writer(writer, written, &stats);
		written++;
	}
	if (!writer->failed)
		mp_fill_array(writer, hole, written);
}

void handle_STATS(struct call *call, const struct request *request, struct buf *owner)
{
	(void)request;
	(void)owner;
	const struct net *net = call->net;
	struct engine_stats stats;
	struct mp_writer writer;
	engine_stats(net->engine, &stats);
	if (!call_reply_begin(call, &writer, 10))
		return;
	write_server(&writer, net);
	write_health(&writer, net);
	write_connections(&writer, net);
	write_access(&writer, net);
	write_requests(&writer, net);
	write_errors(&writer, net);
	write_engine(&writer, &stats);
	write_recovery(&writer, &stats.recovery);
	write_checkpoints(&writer, net);
	write_writers(&writer, net, stats.writer_count);
	call_reply_end(call, &writer);
}
