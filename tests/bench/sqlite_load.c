/*
 * sqlite_load: what SQLite does as a log: one row a transaction, journal_mode=WAL, synchronous=FULL.
 *
 * One thread and no sockets: SQLite lives in the program that uses it. The table is what one would make for a log: an
 * id that counts up, and the entry. Exit status: 0; 1 failed; 2 usage.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "arguments.h"
#include "single.h"

static const char usage[] = "sqlite_load: rows into SQLite, one a transaction, synced (WAL, synchronous=FULL)\n"
			    "\n"
			    "  --dir DIR              where its files are made, and deleted again\n"
			    "  --bytes N              of a row, random (100)\n"
			    "  --duration SECONDS     measured for so long (2)\n"
			    "  --warmup SECONDS       the same before, not measured (0.3)\n"
			    "  --json                 one JSON object instead of one line\n";

struct database {
	sqlite3 *db;
	sqlite3_stmt *insert;
	uint8_t *entry;
	uint64_t bytes, count;
};

static struct single_result result;

static int fail(const struct database *database, const char *what)
{
	return refuse("%s: %s", what, sqlite3_errmsg(database->db));
}

/* Without BEGIN each statement is a transaction. */
static int insert_one(void *arg)
{
	struct database *database = arg;
	uint64_t number = database->count++ * UINT64_C(0x9e3779b97f4a7c15);
	memcpy(database->entry, &number, database->bytes < sizeof(number) ? database->bytes : sizeof(number));
	if (sqlite3_bind_blob64(database->insert, 1, database->entry, database->bytes, SQLITE_STATIC) != SQLITE_OK ||
		sqlite3_step(database->insert) != SQLITE_DONE || sqlite3_reset(database->insert) != SQLITE_OK)
		return fail(database, "INSERT");
	return 0;
}

/* A mode that is not to be had is answered with the one that there is. */
static int expect(struct database *database, const char *sql, const char *wanted)
{
	sqlite3_stmt *statement;
	if (sqlite3_prepare_v2(database->db, sql, -1, &statement, NULL) != SQLITE_OK)
		return fail(database, sql);
	bool right = sqlite3_step(statement) == SQLITE_ROW &&
		     strcmp((const char *)sqlite3_column_text(statement, 0), wanted) == 0;
	sqlite3_finalize(statement);
	return right ? 0 : refuse("%s: SQLite does not answer %s", sql, wanted);
}

static int prepare(struct database *database, const char *path)
{
	static const char set_up[] =
		"PRAGMA synchronous = FULL; CREATE TABLE log (id INTEGER PRIMARY KEY, entry BLOB);";
	static const char insert[] = "INSERT INTO log (entry) VALUES (?)";
	if (sqlite3_open(path, &database->db) != SQLITE_OK)
		return fail(database, path);
	if (expect(database, "PRAGMA journal_mode = WAL", "wal") != 0)
		return -1;
	if (sqlite3_exec(database->db, set_up, NULL, NULL, NULL) != SQLITE_OK)
		return fail(database, "CREATE TABLE");
	if (expect(database, "PRAGMA synchronous", "2") != 0)
		return -1;
	return sqlite3_prepare_v2(database->db, insert, -1, &database->insert, NULL) == SQLITE_OK
		       ? 0
		       : fail(database, insert);
}

static int run(struct database *database, const struct single_options *options, const char *path)
{
	database->entry = malloc(options->bytes);
	database->bytes = options->bytes;
	if (database->entry == NULL)
		return refuse("out of memory");
	for (uint64_t i = 0; i < options->bytes; i += 256) {
		uint64_t part = options->bytes - i < 256 ? options->bytes - i : 256;
		if (getrandom(database->entry + i, part, 0) != (ssize_t)part)
			return refuse("no randomness");
	}
	if (prepare(database, path) != 0)
		return -1;
	return single_run(options, insert_one, database, &result);
}

static void remove_files(const char *dir, const char *path)
{
	static const char *const suffixes[] = {"", "-wal", "-shm"};
	char name[4200];
	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		(void)snprintf(name, sizeof(name), "%s%s", path, suffixes[i]);
		unlink(name);
	}
	rmdir(dir);
}

int main(int argc, char **argv)
{
	struct single_options options;
	struct database database = {0};
	char dir[4096], path[4150];
	int parsed = single_parse(&options, usage, argc, argv);
	if (parsed != 0)
		return parsed > 0 ? 0 : 2;
	if (snprintf(dir, sizeof(dir), "%s/sqlite-XXXXXX", options.dir) >= (int)sizeof(dir) || mkdtemp(dir) == NULL) {
		refuse("--dir %s: no directory can be made there", options.dir);
		return 2;
	}
	(void)snprintf(path, sizeof(path), "%s/log.db", dir);
	int outcome = run(&database, &options, path);
	sqlite3_finalize(database.insert);
	sqlite3_close(database.db);
	remove_files(dir, path);
	free(database.entry);
	if (outcome == 0)
		single_report(&options, "sqlite", &result);
	return outcome == 0 ? 0 : 1;
}
