#include "crew.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "thread.h"

struct worker {
	struct crew *crew;
	struct traffic *traffic;
	struct acked acked; /* a slice of the crew's */
	pthread_t thread;
	/* of the phase that runs */
	struct phase phase;
	struct phase_result result;
	struct fault fault;
	int outcome;
};

struct crew {
	const struct bench_plan *plan;
	const struct requests *requests;
	atomic_int *stop;
	struct acked acked;
	struct worker *workers;
	size_t workers_count;
	struct figures live[BENCH_OPS];
	pthread_mutex_t mutex;
	pthread_cond_t changed; /* running */
	size_t running;
};

/* ---- a phase ---- */

static void *work(void *arg)
{
	struct worker *worker = arg;
	struct crew *crew = worker->crew;
	worker->outcome = traffic_run(worker->traffic, &worker->phase, &worker->result, &worker->fault);
	if (worker->outcome != 0)
		atomic_store(crew->stop, STOP_NOW); /* a load that lacks connections is another load */
	pthread_mutex_lock(&crew->mutex);
	crew->running--;
	pthread_cond_signal(&crew->changed);
	pthread_mutex_unlock(&crew->mutex);
	return NULL;
}

static void tell(struct crew *crew, size_t started, uint64_t elapsed_ns, crew_tick_cb tick, void *arg)
{
	memset(crew->live, 0, sizeof(crew->live));
	for (size_t i = 0; i < started; i++)
		for (int op = 0; op < BENCH_OPS; op++)
			figures_merge(&crew->live[op], &crew->workers[i].result.figures[op]);
	tick(crew->live, elapsed_ns, arg);
}

static bool wait_until(struct crew *crew, uint64_t until_ns)
{
	struct timespec until = {
		.tv_sec = (time_t)(until_ns / NS_PER_SECOND), .tv_nsec = (long)(until_ns % NS_PER_SECOND)};
	pthread_mutex_lock(&crew->mutex);
	int result = 0;
	while (crew->running > 0 && result == 0)
		result = pthread_cond_timedwait(&crew->changed, &crew->mutex, &until);
	bool over = crew->running == 0;
	pthread_mutex_unlock(&crew->mutex);
	return over;
}

/* The share of a count that goes to worker i: as that of the connections. */
static uint64_t share(const struct crew *crew, size_t i, uint64_t count)
{
	uint64_t threads = crew->workers_count, conns = crew->plan->connections_count;
	if (count == UINT64_MAX || threads == 1)
		return count;
	/* Connections of the workers before this one. */
	uint64_t before = conns / threads * i + (i < conns % threads ? i : conns % threads);
	uint64_t own = conns / threads + (i < conns % threads);
	uint64_t rest = count % conns;
	return count / conns * own + (rest * (before + own) / conns - rest * before / conns);
}

static size_t start(struct crew *crew, const struct phase *phase, struct fault *fault)
{
	size_t count = phase->prefill ? 1 : crew->workers_count;
	for (size_t i = 0; i < count; i++) {
		struct worker *worker = &crew->workers[i];
		worker->phase = *phase;
		worker->phase.request_count =
			phase->prefill ? phase->request_count : share(crew, i, phase->request_count);
		memset(&worker->result, 0, sizeof(worker->result));
		worker->fault = (struct fault){0};
		worker->outcome = 0;
		pthread_mutex_lock(&crew->mutex);
		crew->running++;
		pthread_mutex_unlock(&crew->mutex);
		int result = thread_start(&worker->thread, "bench", work, worker);
		if (result == 0)
			continue;
		fault_set(fault, FAULT_HERE, "cannot start a thread: %s", strerror(result));
		atomic_store(crew->stop, STOP_NOW);
		pthread_mutex_lock(&crew->mutex);
		crew->running--;
		pthread_mutex_unlock(&crew->mutex);
		return i;
	}
	return count;
}

static void gather(const struct worker *worker, uint64_t begin_ns, struct crew_result *sum)
{
	const struct phase_result *result = &worker->result;
	for (int op = 0; op < BENCH_OPS; op++)
		figures_merge(&sum->figures[op], &result->figures[op]);
	complaints_merge(&sum->complaints, &result->complaints);
	sum->sent += result->sent;
	sum->wakeups += result->wakeups;
	sum->unknown += result->unknown;
	sum->checked += result->checked;
	sum->record_full = sum->record_full || result->record_full;
	if (result->ended_ns > begin_ns && result->ended_ns - begin_ns > sum->elapsed_ns)
		sum->elapsed_ns = result->ended_ns - begin_ns;
	double cpu_share = result->wall_ns > 0 ? (double)result->cpu_ns / (double)result->wall_ns : 0;
	sum->cpu_share_sum += cpu_share;
	if (cpu_share > sum->cpu_share_max)
		sum->cpu_share_max = cpu_share;
}

int crew_run(struct crew *crew, bool prefill, uint64_t duration_ns, uint64_t request_count, uint64_t tick_ns,
	crew_tick_cb tick, void *arg, struct crew_result *ret_result, struct fault *fault)
{
	struct phase phase = {.prefill = prefill, .begin_ns = clock_now_ns(), .request_count = request_count};
	uint64_t tick_at_ns = phase.begin_ns;
	phase.end_ns = duration_ns < UINT64_MAX - phase.begin_ns ? phase.begin_ns + duration_ns : UINT64_MAX;
	size_t started = start(crew, &phase, fault);
	do {
		tick_at_ns += tick_ns;
		if (tick != NULL && tick_at_ns > phase.begin_ns + tick_ns)
			tell(crew, started, clock_now_ns() - phase.begin_ns, tick, arg);
	} while (!wait_until(crew, tick_at_ns));
	memset(ret_result, 0, sizeof(*ret_result));
	for (size_t i = 0; i < started; i++) {
		struct worker *worker = &crew->workers[i];
		pthread_join(worker->thread, NULL);
		gather(worker, phase.begin_ns, ret_result);
		if (worker->fault.kind != FAULT_NONE)
			fault_set(fault, worker->fault.kind, "%s", worker->fault.text);
	}
	return fault->kind == FAULT_NONE ? 0 : -1;
}

/* ---- before and after ---- */

void crew_share_extents(struct crew *crew, const struct extent *extents)
{
	if (extents == NULL)
		extents = traffic_extents(crew->workers[0].traffic);
	for (size_t i = 0; i < crew->workers_count; i++) {
		struct extent *own = traffic_extents(crew->workers[i].traffic);
		if (own != extents)
			memcpy(own, extents, crew->requests->logs_count * sizeof(*own));
	}
}

struct acked *crew_acked(struct crew *crew)
{
	for (size_t i = 0; i < crew->workers_count; i++) {
		struct acked *slice = &crew->workers[i].acked;
		if (slice->count > 0)
			memmove(crew->acked.records + crew->acked.count, slice->records,
				slice->count * sizeof(*slice->records));
		crew->acked.count += slice->count;
		slice->count = 0;
	}
	acked_sort(&crew->acked);
	return &crew->acked;
}

static int open_workers(struct crew *crew, size_t record_max, struct fault *fault)
{
	size_t count = crew->plan->threads_count, slice = record_max / count;
	if (record_max > 0 && acked_open(&crew->acked, record_max) != 0)
		return fault_set(
			fault, FAULT_HERE, "no memory for a record of what is acknowledged: %s", strerror(errno));
	crew->workers = calloc(count, sizeof(*crew->workers));
	if (crew->workers == NULL)
		return fault_set(fault, FAULT_HERE, "out of memory");
	for (size_t i = 0; i < count; i++, crew->workers_count++) {
		struct worker *worker = &crew->workers[i];
		worker->crew = crew;
		if (record_max > 0)
			worker->acked = (struct acked){.records = crew->acked.records + i * slice, .max = slice};
		const struct traffic_setup setup = {
			.plan = crew->plan,
			.requests = crew->requests,
			.thread = (uint32_t)i,
			.threads_count = (uint32_t)count,
			.acked = record_max > 0 ? &worker->acked : NULL,
			.stop = crew->stop,
		};
		worker->traffic = traffic_new(&setup, fault);
		if (worker->traffic == NULL)
			return -1;
	}
	return 0;
}

struct crew *crew_new(const struct bench_plan *plan, const struct requests *requests, size_t record_max,
	atomic_int *stop, struct fault *fault)
{
	struct crew *crew = calloc(1, sizeof(*crew));
	pthread_condattr_t monotonic;
	if (crew == NULL) {
		fault_set(fault, FAULT_HERE, "out of memory");
		return NULL;
	}
	crew->plan = plan;
	crew->requests = requests;
	crew->stop = stop;
	pthread_mutex_init(&crew->mutex, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&crew->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (open_workers(crew, record_max, fault) == 0)
		return crew;
	crew_free(crew);
	return NULL;
}

void crew_free(struct crew *crew)
{
	if (crew == NULL)
		return;
	for (size_t i = 0; i < crew->workers_count; i++)
		traffic_free(crew->workers[i].traffic);
	free(crew->workers);
	acked_close(&crew->acked);
	pthread_cond_destroy(&crew->changed);
	pthread_mutex_destroy(&crew->mutex);
	free(crew);
}
