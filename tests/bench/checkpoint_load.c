/*
 * checkpoint_load: how long it takes to create and to load checkpoints, one after the other, as a caller sees it.
 *
 *   checkpoint_load ADDRESS EXISTING COUNT
 *
 * Makes EXISTING checkpoints first (by many connections, not measured), then COUNT creations with nothing new since the
 * last, COUNT of which each shard has a new entry, and COUNT loads of ids at random. One line of JSON.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "histogram.h"
#include "ironwal.h"

#define MAKERS 32

static const char *address;
static unsigned long existing, count;

static void fail(const char *what, const ironwal_error *error)
{
	fprintf(stderr, "checkpoint_load: %s: %s\n", what, ironwal_error_message(error));
	exit(1);
}

static ironwal *connect_to(ironwal_error *error)
{
	ironwal *connection;
	if (ironwal_connect(address, NULL, &connection, error) != 0)
		fail("connect", error);
	return connection;
}

static void create(ironwal *connection, const char *kind, unsigned long number, ironwal_error *error)
{
	char id[48];
	int len = snprintf(id, sizeof(id), "%s-%lu", kind, number);
	if (ironwal_create_checkpoint(connection, id, (size_t)len, NULL, error) != 0)
		fail("create", error);
}

static void *make_some(void *arg)
{
	unsigned long maker = *(unsigned long *)arg;
	ironwal_error *error = ironwal_error_new();
	ironwal *connection = connect_to(error);
	for (unsigned long i = maker; i < existing; i += MAKERS)
		create(connection, "existing", i, error);
	ironwal_close(connection);
	ironwal_error_free(error);
	return NULL;
}

static void make_existing(void)
{
	pthread_t threads[MAKERS];
	unsigned long numbers[MAKERS];
	for (unsigned long i = 0; i < MAKERS; i++) {
		numbers[i] = i;
		if (pthread_create(&threads[i], NULL, make_some, &numbers[i]) != 0)
			exit(1);
	}
	for (unsigned long i = 0; i < MAKERS; i++)
		pthread_join(threads[i], NULL);
}

/* An entry more in each shard. */
static void append_everywhere(ironwal *connection, ironwal_error *error)
{
	uint32_t shards = ironwal_shard_count(connection), id;
	ironwal_result *result;
	int rc;
	for (uint32_t i = 0; i < shards; i++) {
		char name[IRONWAL_SHARD_NAME_MAX];
		size_t len = ironwal_shard_name(i, name);
		if (ironwal_submit_append(connection, name, len, "an entry of some bytes", 22, NULL, &id, error) != 0)
			fail("append", error);
	}
	while ((rc = ironwal_wait_result(connection, &result, error)) > 0) {
		ironwal_error_copy(error, ironwal_result_error(result));
		if (ironwal_error_get_code(error) != IRONWAL_OK)
			fail("append", error);
	}
	if (rc < 0)
		fail("append", error);
}

static void print(const char *name, const struct histogram *histogram, const char *end)
{
	printf("\"%s\": {\"p50_us\": %.1f, \"p99_us\": %.1f}%s", name, (double)histogram_at(histogram, 0.5) / 1000,
		(double)histogram_at(histogram, 0.99) / 1000, end);
}

int main(int argc, char **argv)
{
	static struct histogram idle, busy, loads;
	if (argc != 4) {
		fprintf(stderr, "usage: checkpoint_load ADDRESS EXISTING COUNT\n");
		return 2;
	}
	address = argv[1];
	existing = strtoul(argv[2], NULL, 10);
	count = strtoul(argv[3], NULL, 10);
	ironwal_error *error = ironwal_error_new();
	ironwal *connection = connect_to(error);
	append_everywhere(connection, error);
	make_existing();
	for (unsigned long i = 0; i < count; i++) {
		uint64_t begin = clock_now_ns();
		create(connection, "idle", i, error);
		histogram_add(&idle, clock_now_ns() - begin);
	}
	for (unsigned long i = 0; i < count; i++) {
		append_everywhere(connection, error);
		uint64_t begin = clock_now_ns();
		create(connection, "busy", i, error);
		histogram_add(&busy, clock_now_ns() - begin);
	}
	for (unsigned long i = 0; i < count && existing > 0; i++) {
		char id[48];
		int len = snprintf(id, sizeof(id), "existing-%lu", i * 7919 % existing);
		ironwal_checkpoint *checkpoint;
		uint64_t begin = clock_now_ns();
		if (ironwal_load_checkpoint(connection, id, (size_t)len, &checkpoint, error) != 0)
			fail("load", error);
		histogram_add(&loads, clock_now_ns() - begin);
		ironwal_checkpoint_free(checkpoint);
	}
	printf("{");
	print("create", &idle, ", ");
	print("create_after_appends", &busy, ", ");
	print("load", &loads, "}\n");
	ironwal_close(connection);
	ironwal_error_free(error);
	return 0;
}
