/*
 * The page /metrics. The families stand in the order of the answer to stats (handlers_stats.c), which shows the same
 * numbers; a histogram of Prometheus takes the place of percentiles.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint.h"
#include "clock.h"
#include "pages.h"
#include "process_numbers.h"

#define COUNT_OF(rows) (sizeof(rows) / sizeof((rows)[0]))
#define LABELS_MAX 160

/* 4 us to 17 s, doubling. */
static const struct metrics_scale times = {.nanoseconds = true, .first = 11, .last = 33};
/* 1 to 131071. */
static const struct metrics_scale requests_scale = {.first = 0, .last = 16};

struct row {
	const char *name;
	enum metric_type type;
	uint64_t value;
	const char *help;
};

static void put_rows(struct metrics_text *text, const struct row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		metrics_family(text, rows[i].name, rows[i].type, rows[i].help);
		metrics_value(text, NULL, rows[i].value);
	}
}

static void put_seconds(
	struct metrics_text *text, const char *name, enum metric_type type, uint64_t ns, const char *help)
{
	metrics_family(text, name, type, help);
	metrics_seconds(text, NULL, ns);
}

static void put_server(struct metrics_text *text, const struct net *net)
{
	char labels[LABELS_MAX];
	struct health_report report;
	snprintf(labels, sizeof(labels), "version=\"%s\",sync_mode=\"%s\",compression=\"%s\"", IRONWALD_VERSION,
		net->options->sync_mode, net->options->compression);
	metrics_family(text, "ironwald_build_info", METRIC_GAUGE, "1, with what it is and how it runs as labels.");
	metrics_value(text, labels, 1);
	put_seconds(text, "ironwald_uptime_seconds", METRIC_GAUGE, clock_now_ns() - net->started_ns,
		"How long it has run.");
	net_health(net, &report);
	const struct row rows[] = {
		{"ironwald_alive", METRIC_GAUGE, report.alive, "0 if a thread hangs, as /healthz says."},
		{"ironwald_ready", METRIC_GAUGE, report.ready,
			"0 if it stops, a writer waits for a slow disk or shards take no writes, as /readyz says."},
		{"ironwald_disk_waits_total", METRIC_COUNTER, report.disk_waits,
			"How often a thread waited for the disk for slow_disk_after."},
		{"ironwald_disk_waiting_threads", METRIC_GAUGE, report.disk_waits_now,
			"Threads that wait for the disk for longer than slow_disk_after now."},
	};
	put_rows(text, rows, COUNT_OF(rows));
	put_seconds(text, "ironwald_disk_wait_seconds_total", METRIC_COUNTER, report.disk_wait_ns,
		"Time in those waits of threads for the disk.");
}

static void put_connections(struct metrics_text *text, const struct net *net)
{
	struct conn_group_stats conns;
	conn_group_stats(net->conns, &conns);
	const struct row rows[] = {
		{"ironwald_connections", METRIC_GAUGE, conns.connections, "Connections of clients."},
		{"ironwald_connections_max", METRIC_GAUGE, net->options->max_connections,
			"max_connections, as it holds."},
		{"ironwald_connections_accepted_total", METRIC_COUNTER, net->stats.connections_accepted,
			"Connections that were accepted, also those that were refused then."},
		{"ironwald_connections_refused_total", METRIC_COUNTER, net->stats.connections_refused,
			"Connections over max_connections."},
		{"ironwald_accept_errors_total", METRIC_COUNTER, net->stats.accept_errors,
			"Connections that could not be accepted."},
		{"ironwald_protocol_errors_total", METRIC_COUNTER, conns.protocol_errors,
			"Connections that were closed for bytes that are no messages."},
		{"ironwald_connection_timeouts_total", METRIC_COUNTER, conns.timeouts,
			"Connections that were closed for one of the timeouts."},
		{"ironwald_received_bytes_total", METRIC_COUNTER, conns.bytes_in, "Bytes from clients."},
		{"ironwald_sent_bytes_total", METRIC_COUNTER, conns.bytes_out, "Bytes to clients."},
		{"ironwald_inflight_bytes", METRIC_GAUGE, conns.inflight_bytes,
			"Requests and answers held for all connections."},
		{"ironwald_inflight_max_bytes", METRIC_GAUGE, net->options->max_inflight_bytes_total,
			"max_inflight_bytes_total, as it holds."},
		{"ironwald_receive_buffer_bytes", METRIC_GAUGE, conns.receive_bytes,
			"Memory for what is received of requests."},
		{"ironwald_waiting_iters", METRIC_GAUGE, waiters_count(net->waiters),
			"Requests iter that wait for an entry to come."},
		{"ironwald_pool_reads", METRIC_GAUGE, net->pool_reads, "Reads that are with the pool of threads."},
	};
	put_rows(text, rows, COUNT_OF(rows));
	metrics_family(text, "ironwald_reads_total", METRIC_COUNTER,
		"Reads that memory served in the loop, and reads that went to the pool of threads.");
	metrics_value(text, "where=\"loop\"", net->stats.reads_on_loop);
	metrics_value(text, "where=\"pool\"", net->stats.reads_in_pool);
}

static void put_access(struct metrics_text *text, const struct net *net)
{
	struct auth_stats stats;
	struct tls_stats tls;
	auth_get_stats(net->auth, &stats);
	tls_get_stats(net->tls, &tls);
	const struct row rows[] = {
		{"ironwald_tokens", METRIC_GAUGE, stats.tokens, "Tokens of token_file."},
		{"ironwald_wrong_tokens_total", METRIC_COUNTER, stats.wrong_tokens, "Tokens that were not right."},
		{"ironwald_held_off_total", METRIC_COUNTER, stats.held_off,
			"Tokens that were not looked at, as their peers have been wrong too often."},
		{"ironwald_tls_handshakes_total", METRIC_COUNTER, tls.handshakes, "TLS handshakes that ended well."},
		{"ironwald_tls_failures_total", METRIC_COUNTER, tls.failures,
			"TLS handshakes that did not, and connections that were cut off."},
	};
	put_rows(text, rows, COUNT_OF(rows));
}

static const char *name_of_method(unsigned method)
{
	return method == METHOD_UNKNOWN ? "unknown" : method_name((enum method)method);
}

static void put_requests(struct metrics_text *text, const struct net *net)
{
	char labels[LABELS_MAX];
	metrics_family(text, "ironwald_request_seconds", METRIC_HISTOGRAM,
		"From a request's last byte read to its answer queued, by method; the wait of an iter is left out.");
	for (unsigned i = 0; i <= METHOD_UNKNOWN; i++) {
		snprintf(labels, sizeof(labels), "method=\"%s\"", name_of_method(i));
		metrics_histogram(text, labels, &net->stats.methods[i].latency_ns, &times);
	}
	metrics_family(text, "ironwald_request_errors_total", METRIC_COUNTER,
		"Requests that were answered with an error, by method.");
	for (unsigned i = 0; i <= METHOD_UNKNOWN; i++) {
		snprintf(labels, sizeof(labels), "method=\"%s\"", name_of_method(i));
		metrics_value(text, labels, net->stats.methods[i].errors);
	}
	metrics_family(text, "ironwald_errors_total", METRIC_COUNTER,
		"Requests and connections that were answered with an error, by code.");
	for (unsigned i = 1; i < ERR_OTHER; i++) {
		snprintf(labels, sizeof(labels), "code=\"%s\"", error_code_name((enum error_code)i));
		metrics_value(text, labels, net->stats.errors[i]);
	}
}

static void put_engine(struct metrics_text *text, const struct engine_stats *stats)
{
	const struct row rows[] = {
		{"ironwald_streams", METRIC_GAUGE, stats->streams, "Streams."},
		{"ironwald_segments", METRIC_GAUGE, stats->segments, "Segments of all streams."},
		{"ironwald_segment_bytes", METRIC_GAUGE, stats->segment_bytes,
			"Bytes of all segments, without what is held ahead."},
		{"ironwald_open_segments", METRIC_GAUGE, stats->open_segments, "Segments that are open."},
		{"ironwald_open_segments_max", METRIC_GAUGE, stats->open_segments_max,
			"max_open_segments, as it holds."},
		{"ironwald_block_cache_hits_total", METRIC_COUNTER, stats->block_cache_hits,
			"Blocks that were in block_cache."},
		{"ironwald_block_cache_misses_total", METRIC_COUNTER, stats->block_cache_misses,
			"Blocks that were not."},
		{"ironwald_block_cache_bytes", METRIC_GAUGE, stats->block_cache_bytes, "Memory of block_cache."},
		{"ironwald_entries_read_total", METRIC_COUNTER, stats->entries_read, "Entries that were read."},
		{"ironwald_read_bytes_total", METRIC_COUNTER, stats->bytes_read, "Bytes of those entries."},
		{"ironwald_damage_found_total", METRIC_COUNTER, stats->damage_found, "How often a read met damage."},
		{"ironwald_segments_unlinked_total", METRIC_COUNTER, stats->segments_unlinked,
			"Segments that were deleted."},
		{"ironwald_filled_ahead_bytes_total", METRIC_COUNTER, stats->bytes_filled_ahead,
			"Zeros that were written ahead."},
		{"ironwald_disk_size_bytes", METRIC_GAUGE, stats->space.total_bytes,
			"Size of the file system that has root_path."},
		{"ironwald_disk_free_bytes", METRIC_GAUGE, stats->space.free_bytes,
			"What of it the daemon could still use."},
	};
	put_rows(text, rows, COUNT_OF(rows));
}

static void put_recovery(struct metrics_text *text, const struct recovery_stats *stats)
{
	const struct row rows[] = {
		{"ironwald_recovery_clean_start", METRIC_GAUGE, stats->clean_start,
			"1 if the stop before this start was a clean one."},
		{"ironwald_recovery_streams", METRIC_GAUGE, stats->streams, "Streams that this start found."},
		{"ironwald_recovery_segments", METRIC_GAUGE, stats->segments, "Segments that this start found."},
		{"ironwald_recovery_journal_records", METRIC_GAUGE, stats->journal_records,
			"Records of journals that this start applied."},
		{"ironwald_recovery_journal_ops", METRIC_GAUGE, stats->journal_ops, "Writes in those records."},
		{"ironwald_recovery_tails_read", METRIC_GAUGE, stats->tails_read,
			"Ends of streams that this start read."},
		{"ironwald_recovery_tail_read_bytes", METRIC_GAUGE, stats->tail_bytes_read, "Bytes of those ends."},
		{"ironwald_recovery_torn_tails_cut", METRIC_GAUGE, stats->torn_tails_cut,
			"Torn ends that this start cut: a crash leaves them, and nothing that was durable is lost."},
		{"ironwald_recovery_torn_cut_bytes", METRIC_GAUGE, stats->torn_bytes_cut, "Bytes of those."},
		{"ironwald_recovery_rot_found", METRIC_GAUGE, stats->rot_found,
			"Damage to what had been durable that this start met."},
		{"ironwald_recovery_files_set_aside", METRIC_GAUGE, stats->files_set_aside,
			"Files that this start set aside."},
		{"ironwald_recovery_entries_rewritten", METRIC_GAUGE, stats->entries_rewritten,
			"Frames that this start wrote again and synced before it served."},
	};
	put_seconds(text, "ironwald_recovery_duration_seconds", METRIC_GAUGE, stats->duration_ns,
		"How long the recovery of this start took.");
	put_rows(text, rows, COUNT_OF(rows));
}

static void put_checkpoints(struct metrics_text *text, const struct net *net)
{
	struct checkpoint_stats stats;
	engine_checkpoint_stats(net->engine, &stats);
	const struct row rows[] = {
		{"ironwald_checkpoints", METRIC_GAUGE, stats.count, "Checkpoints that are kept."},
		{"ironwald_checkpoint_records", METRIC_GAUGE, stats.records, "Records in the log of checkpoints."},
		{"ironwald_checkpoint_log_bytes", METRIC_GAUGE, stats.bytes, "Bytes of that log."},
		{"ironwald_checkpoint_log_failed", METRIC_GAUGE, stats.failed,
			"1 if it takes no checkpoints until a restart."},
		{"ironwald_checkpoint_damage_found_total", METRIC_COUNTER, stats.damage_found,
			"How often a damaged record was met, at start and since."},
		{"ironwald_checkpoints_created_total", METRIC_COUNTER, stats.created, "Checkpoints that were created."},
		{"ironwald_checkpoints_loaded_total", METRIC_COUNTER, stats.loaded, "Checkpoints that were loaded."},
		{"ironwald_checkpoint_groups_total", METRIC_COUNTER, stats.groups,
			"Groups of checkpoints that were written together."},
		{"ironwald_checkpoint_compactions_total", METRIC_COUNTER, stats.compactions,
			"Compactions of the log of checkpoints."},
	};
	put_rows(text, rows, COUNT_OF(rows));
	metrics_family(text, "ironwald_checkpoint_sync_seconds", METRIC_HISTOGRAM, "Time of a sync of that log.");
	metrics_histogram(text, NULL, &stats.sync_ns, &times);
}

static void put_process(struct metrics_text *text, const struct net *net)
{
	struct process_numbers numbers;
	process_numbers_get(&numbers);
	const struct row rows[] = {
		{"process_resident_memory_bytes", METRIC_GAUGE, numbers.resident_bytes, "Memory that it has."},
		{"process_virtual_memory_bytes", METRIC_GAUGE, numbers.virtual_bytes, "Addresses that it has."},
		{"process_open_fds", METRIC_GAUGE, numbers.open_files, "Descriptors that are open."},
		{"process_max_fds", METRIC_GAUGE, numbers.max_files, "How many there may be."},
	};
	put_seconds(text, "process_cpu_seconds_total", METRIC_COUNTER, numbers.cpu_ns,
		"Processor time, in user and system mode.");
	put_seconds(
		text, "process_start_time_seconds", METRIC_GAUGE, net->started_unix_ns, "When it began, in Unix time.");
	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		if (rows[i].value != 0)
			put_rows(text, &rows[i], 1);
	}
}

/* ---- the writers ------------------------------------------------------------------------------------------------- */

struct writer_row {
	const char *name;
	enum metric_type type;
	size_t offset; /* of a uint64_t in struct writer_stats */
	const char *help;
};

#define FIELD(field) offsetof(struct writer_stats, field)

/* A series for each writer: there are at most a few. */
static const struct writer_row writer_rows[] = {
	{"ironwald_writer_queue_depth", METRIC_GAUGE, FIELD(queue_depth), "Requests that wait for a writer."},
	{"ironwald_appends_total", METRIC_COUNTER, FIELD(appends), "Appends that were written, batches among them."},
	{"ironwald_batches_total", METRIC_COUNTER, FIELD(batches), "Batches that were written."},
	{"ironwald_entries_total", METRIC_COUNTER, FIELD(entries), "Entries that were written."},
	{"ironwald_entry_bytes_total", METRIC_COUNTER, FIELD(bytes), "Bytes of those entries, before compression."},
	{"ironwald_conflicts_total", METRIC_COUNTER, FIELD(conflicts), "Appends whose expected_id did not hold."},
	{"ironwald_truncates_total", METRIC_COUNTER, FIELD(truncates), "Truncations."},
	{"ironwald_sync_requests_total", METRIC_COUNTER, FIELD(syncs_asked),
		"Requests to sync, by each writer that took part."},
	{"ironwald_groups_total", METRIC_COUNTER, FIELD(groups), "Groups of requests that were written together."},
	{"ironwald_journal_groups_total", METRIC_COUNTER, FIELD(journal_groups), "Groups that went by a journal."},
	{"ironwald_writer_held_bytes", METRIC_GAUGE, FIELD(held_bytes),
		"Bytes in memory that are in a journal, and not in their segments yet."},
	{"ironwald_segment_rotations_total", METRIC_COUNTER, FIELD(rotations),
		"Segments that were followed by another."},
	{"ironwald_no_space_errors_total", METRIC_COUNTER, FIELD(no_space_errors),
		"Requests that were refused for want of space."},
};

static uint64_t value_at(const struct writer_stats *stats, size_t offset)
{
	return *(const uint64_t *)((const char *)stats + offset);
}

static void label_of_writer(uint32_t writer, char labels[LABELS_MAX])
{
	snprintf(labels, LABELS_MAX, "writer=\"%" PRIu32 "\"", writer);
}

static void add_histogram(struct histogram *sum, const struct histogram *more)
{
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		sum->buckets[i] += more->buckets[i];
	sum->sum += more->sum;
}

/* A histogram of all writers together: they share the disk, and one for each would be very many series. */
static void put_writers_histogram(struct metrics_text *text, const struct writer_stats *stats, uint32_t count,
	size_t offset, const struct metrics_scale *scale)
{
	struct histogram sum = {0};
	for (uint32_t i = 0; i < count; i++)
		add_histogram(&sum, (const struct histogram *)((const char *)&stats[i] + offset));
	metrics_histogram(text, NULL, &sum, scale);
}

static void put_syncs(struct metrics_text *text, const struct writer_stats *stats, uint32_t count)
{
	static const struct {
		const char *kind;
		size_t offset;
	} kinds[] = {{"file", FIELD(file_syncs)}, {"directory", FIELD(dir_syncs)}, {"journal", FIELD(journal_syncs)}};
	char labels[LABELS_MAX];
	metrics_family(text, "ironwald_syncs_total", METRIC_COUNTER,
		"Syncs of segments, of directories, and of journals, which stand for many of the others.");
	for (uint32_t i = 0; i < count; i++) {
		for (size_t k = 0; k < COUNT_OF(kinds); k++) {
			snprintf(labels, sizeof(labels), "writer=\"%" PRIu32 "\",kind=\"%s\"", i, kinds[k].kind);
			metrics_value(text, labels, value_at(&stats[i], kinds[k].offset));
		}
	}
}

/* Shard n belongs to writer n modulo their number. */
static void put_shards(
	struct metrics_text *text, const struct net *net, const struct writer_stats *stats, uint32_t writer_count)
{
	uint64_t refusing = 0, shard_count = engine_shard_count(net->engine);
	char labels[LABELS_MAX];
	for (uint32_t i = 0; i < writer_count; i++)
		refusing += stats[i].failed_shards;
	metrics_family(text, "ironwald_shards", METRIC_GAUGE,
		"Shards by state: those that refuse writes do so until a restart.");
	metrics_value(text, "state=\"writable\"", shard_count - refusing);
	metrics_value(text, "state=\"refusing_writes\"", refusing);
	metrics_family(text, "ironwald_writer_failed", METRIC_GAUGE,
		"1 if some of the writer's shards, or all, take no writes until a restart. Shard n belongs to writer n "
		"modulo their number.");
	for (uint32_t i = 0; i < writer_count; i++) {
		label_of_writer(i, labels);
		metrics_value(text, labels, stats[i].failed);
	}
}

static void put_writers(struct metrics_text *text, const struct net *net, uint32_t count)
{
	char labels[LABELS_MAX];
	struct writer_stats *stats = calloc(count, sizeof(*stats));
	if (stats == NULL) {
		text->failed = true;
		return;
	}
	for (uint32_t i = 0; i < count; i++)
		engine_writer_stats(net->engine, i, &stats[i]);
	put_shards(text, net, stats, count);
	for (size_t row = 0; row < COUNT_OF(writer_rows); row++) {
		metrics_family(text, writer_rows[row].name, writer_rows[row].type, writer_rows[row].help);
		for (uint32_t i = 0; i < count; i++) {
			label_of_writer(i, labels);
			metrics_value(text, labels, value_at(&stats[i], writer_rows[row].offset));
		}
	}
	put_syncs(text, stats, count);
	metrics_family(text, "ironwald_sync_seconds", METRIC_HISTOGRAM, "Time of each of those syncs, of all writers.");
	put_writers_histogram(text, stats, count, FIELD(sync_ns), &times);
	metrics_family(text, "ironwald_group_requests", METRIC_HISTOGRAM,
		"Requests that were written together, of all writers.");
	put_writers_histogram(text, stats, count, FIELD(group_ops), &requests_scale);
	metrics_family(text, "ironwald_queue_seconds", METRIC_HISTOGRAM,
		"From a write's way to its writer to its completion, of all writers.");
	put_writers_histogram(text, stats, count, FIELD(queue_ns), &times);
	free(stats);
}

unsigned page_metrics(const struct net *net, struct metrics_text *text)
{
	struct engine_stats stats;
	engine_stats(net->engine, &stats);
	put_server(text, net);
	put_connections(text, net);
	put_access(text, net);
	put_requests(text, net);
	put_engine(text, &stats);
	put_recovery(text, &stats.recovery);
	put_checkpoints(text, net);
	put_writers(text, net, stats.writer_count);
	put_process(text, net);
	return 200;
}
