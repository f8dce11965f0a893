/* ironwal get, ironwal cat (and what ironwal shard cat has in common with it). */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "progress.h"
#include "tool.h"

/* How entries are printed. */
struct style {
	bool raw, null, ids;
	struct json *json; /* NULL: none of it */
};

#define STYLE_ROWS(style) OPT_FLAG("raw", &(style).raw), OPT_FLAG("null", &(style).null), OPT_FLAG("ids", &(style).ids)

/* TOOL_GO_ON, or the exit status. */
static int style_check(const struct tool *tool, const struct style *style)
{
	if (tool->json && (style->raw || style->null || style->ids))
		return tool_usage(tool, "--json and --%s exclude each other",
			style->raw    ? "raw"
			: style->null ? "null"
				      : "ids");
	if (style->raw && (style->null || style->ids))
		return tool_usage(tool, "--raw and --%s exclude each other", style->null ? "null" : "ids");
	return TOOL_GO_ON;
}

/* entry NULL: there is none (JSON only). False as out_write. */
static bool print_entry(const struct style *style, uint64_t id, const void *entry, size_t len)
{
	if (style->json != NULL) {
		json_map(style->json);
		json_key(style->json, "id");
		json_u64(style->json, id);
		if (entry != NULL) {
			json_key_bytes(style->json, "entry", entry, len);
		} else {
			json_key(style->json, "entry");
			json_null(style->json);
		}
		json_map_end(style->json);
		return json_line(style->json);
	}
	if (style->ids && !out_format("%llu\t", (unsigned long long)id))
		return false;
	return out_entry(entry, len, style->raw || style->null) &&
	       (style->raw || out_write(style->null ? "" : "\n", 1));
}

/* ---- get ---- */

/* In one request, if its answer is not too large. */
#define GET_IDS_MAX 1000

struct get {
	struct tool *tool;
	const char *stream;
	struct style style;
	uint64_t *ids;
	size_t count;
	/* what is not there */
	uint64_t missing_count;
	char missing[128]; /* the first ones: " 7, 9" */
};

static void note_missing(struct get *get, uint64_t id)
{
	size_t len = strlen(get->missing);
	if (len + 32 < sizeof(get->missing))
		(void)snprintf(get->missing + len, sizeof(get->missing) - len, "%s%llu", len > 0 ? ", " : "",
			(unsigned long long)id);
	else if (len + 5 < sizeof(get->missing) && get->missing[len - 1] != '.')
		strcat(get->missing, " ...");
	get->missing_count++;
}

static int get_end(const struct get *get)
{
	if (get->missing_count == 0)
		return EXIT_OK;
	return tool_failed_here(get->tool, "'%s' has no %s %s (not yet, or truncated away); see ironwal info",
		get->stream, get->missing_count == 1 ? "entry" : "entries", get->missing);
}

/* As it is; so that the prompt of a shell comes on a line of its own, on a terminal a newline ends it. */
static void print_alone(const struct get *get, const uint8_t *entry, size_t len)
{
	out_entry(entry, len, get->style.raw);
	if (!get->style.raw && out_is_terminal() && (len == 0 || entry[len - 1] != '\n'))
		out_write("\n", 1);
}

static int get_one(struct get *get)
{
	struct tool *tool = get->tool;
	void *entry;
	size_t len = 0;
	if (ironwal_get(tool->connection, get->stream, strlen(get->stream), get->ids[0], &entry, &len, tool->error) !=
		0)
		return tool_failed(tool, "get from", get->stream, NULL);
	if (entry == NULL)
		note_missing(get, get->ids[0]);
	if (entry == NULL ? get->style.json != NULL : get->style.json != NULL || get->style.null || get->style.ids)
		(void)print_entry(&get->style, get->ids[0], entry, len);
	else if (entry != NULL)
		print_alone(get, entry, len);
	ironwal_entry_free(entry);
	return get_end(get);
}

static int get_many(struct get *get)
{
	struct tool *tool = get->tool;
	size_t most = GET_IDS_MAX;
	bool good = true;
	for (size_t at = 0; at < get->count && good;) {
		size_t count = get->count - at < most ? get->count - at : most;
		ironwal_entries *entries;
		if (ironwal_get_batch(tool->connection, get->stream, strlen(get->stream), get->ids + at, count,
			    &entries, tool->error) != 0) {
			if (ironwal_error_get_code(tool->error) != IRONWAL_ERR_TOO_LARGE || count == 1)
				return tool_failed(tool, "get from", get->stream, NULL);
			most = count / 2;
			continue;
		}
		for (size_t i = 0; i < count && good; i++) {
			const void *entry = NULL;
			size_t len = 0;
			if (!ironwal_entries_get(entries, i, NULL, &entry, &len)) {
				note_missing(get, get->ids[at + i]);
				entry = NULL;
				if (get->style.json == NULL)
					continue;
			} else if (entry == NULL) {
				entry = "";
			}
			good = print_entry(&get->style, get->ids[at + i], entry, len);
		}
		ironwal_entries_free(entries);
		at += count;
	}
	return get_end(get);
}

static int get_run(struct get *get, char **ids)
{
	struct tool *tool = get->tool;
	int status;
	for (size_t i = 0; i < get->count; i++) {
		if (!tool_parse_u64(ids[i], &get->ids[i]))
			return tool_usage(tool, "'%s' is not an id", ids[i]);
	}
	if ((status = tool_connect(tool)) != TOOL_GO_ON)
		return status;
	if (tool->json)
		get->style.json = json_new();
	status = get->count == 1 ? get_one(get) : get_many(get);
	if (tool->json)
		json_free(get->style.json);
	return status;
}

static int run_get(struct tool *tool, int argc, char **argv)
{
	struct get get = {.tool = tool};
	const struct option_row rows[] = {STYLE_ROWS(get.style), OPT_END};
	int status = tool_arguments(tool, argc, argv, rows, 2, argc);
	if (status != TOOL_GO_ON || (status = style_check(tool, &get.style)) != TOOL_GO_ON)
		return status;
	get.stream = argv[optind];
	get.count = (size_t)(argc - optind - 1);
	get.ids = calloc(get.count, sizeof(*get.ids));
	if (get.ids == NULL)
		return tool_failed_here(tool, "out of memory");
	status = get_run(&get, argv + optind + 1);
	free(get.ids);
	return status;
}

const struct command command_get = {
	.name = "get",
	.summary = "print one entry, byte for byte, or several",
	.help = "usage: ironwal get [OPTIONS] STREAM ID...\n\n"
		"Writes the bytes of the entry to standard output, with nothing added; of several, in the order of "
		"the\n"
		"IDs, each followed by a newline. If some are not there, the others are printed, and the exit status\n"
		"is 1. On a terminal, a last newline is added if there is none, and control characters come as "
		"\\xNN.\n\n"
		"Options:\n"
		"  --raw              the bytes of the entries and nothing else, on a terminal too\n"
		"  --null             each followed by a NUL byte\n"
		"  --ids              each with its id and a tab before it, and a newline behind\n" TOOL_OPTIONS_HELP
		"                     with --json: a line for each, with \"id\", and \"entry\" (null if there is "
		"none)\n"
		"                     or, if it is not UTF-8, \"entry_base64\"\n\n"
		"Example:\n"
		"  ironwal get greetings 0 > first\n"
		"  ironwal get --ids users 0 1 2\n",
	.run = run_get,
};

/* ---- cat ---- */

/* Of one request: a log of any size passes through this much memory. */
#define READ_BYTES (1u << 20)
/* While following: how long it takes to notice that the reader of standard output has gone. */
#define WAIT_MS 1000

struct cat {
	struct tool *tool;
	const char *stream; /* of a shard, the name of its log */
	bool of_shard;
	uint32_t shard;
	char shard_name[IRONWAL_SHARD_NAME_MAX];
	struct style style;
	bool follow, has_end;
	uint64_t left, end; /* entries still to print; without --follow, where the stream ended at first */
	uint64_t printed, printed_bytes;
	ironwal_read_options read;
};

/* On SIGINT it stops between two entries, never inside of one. While it waits for the server, that is at once. */
static volatile sig_atomic_t interrupted, waiting;
static struct progress progress;

static void on_interrupt(int number)
{
	interrupted = number;
	if (!waiting)
		return;
	progress_end_in_handler(&progress);
	/* By the signal's own default: a shell must see that this was no end of its own. */
	signal(number, SIG_DFL);
	(void)raise(number);
}

/* False: standard output is of no use any more. */
static bool print_entries(struct cat *cat, const ironwal_entries *entries)
{
	size_t count = ironwal_entries_count(entries);
	for (size_t i = 0; i < count && cat->left > 0 && !interrupted; i++) {
		uint64_t id;
		const void *entry;
		size_t len;
		if (!ironwal_entries_get(entries, i, &id, &entry, &len))
			continue; /* does not happen: what is read has no gaps */
		if (cat->has_end && id >= cat->end)
			break;
		if (!print_entry(&cat->style, id, entry, len))
			return false;
		cat->left--;
		cat->printed++;
		cat->printed_bytes += len;
	}
	return true;
}

static int cat_failed(struct cat *cat)
{
	char hint[96];
	uint64_t first_id;
	const char *what_to_do = NULL;
	if (ironwal_error_get_uint(cat->tool->error, "first_id", &first_id)) {
		(void)snprintf(hint, sizeof(hint), "--from %llu goes on behind it", (unsigned long long)first_id);
		what_to_do = hint;
	} else if (cat->read.has_start_id && tool_exit_status(cat->tool->error) == EXIT_CONNECTION) {
		(void)snprintf(
			hint, sizeof(hint), "--from %llu goes on from here", (unsigned long long)cat->read.start_id);
		what_to_do = hint;
	}
	return tool_failed(cat->tool, "read", cat->stream, what_to_do);
}

static int cat_read(struct cat *cat, ironwal_entries **ret_entries)
{
	struct tool *tool = cat->tool;
	int rc;
	waiting = 1;
	if (interrupted) /* just before */
		on_interrupt((int)interrupted);
	if (cat->of_shard)
		rc = ironwal_read_shard(tool->connection, cat->shard, &cat->read, ret_entries, tool->error);
	else
		rc = ironwal_read(
			tool->connection, cat->stream, strlen(cat->stream), &cat->read, ret_entries, tool->error);
	waiting = 0;
	return rc;
}

/* What comes in while we print is not waited for, else a busy stream would have no end. So it is known how much there
 * is. */
static void cat_set_end(struct cat *cat, const ironwal_entries *entries)
{
	uint64_t from = ironwal_entries_next_id(entries) - ironwal_entries_count(entries);
	cat->has_end = true;
	cat->end = ironwal_entries_end_id(entries);
	uint64_t count = cat->end > from ? cat->end - from : 0;
	progress.total_count = count < cat->left ? count : cat->left;
}

static int cat_run(struct cat *cat)
{
	/* Where it goes to the terminal itself, nobody has to be told. */
	if (!cat->follow && !out_is_terminal())
		progress_start(&progress, "entries", 0, 0);
	while (cat->left > 0 && !interrupted) {
		ironwal_entries *entries;
		cat->read.max_entries = cat->left;
		if (cat_read(cat, &entries) != 0) {
			progress_end(&progress);
			return cat_failed(cat);
		}
		size_t count = ironwal_entries_count(entries);
		if (!cat->follow && !cat->has_end)
			cat_set_end(cat, entries);
		bool good = print_entries(cat, entries) && out_flush();
		cat->read.has_start_id = 1;
		cat->read.start_id = ironwal_entries_next_id(entries);
		ironwal_entries_free(entries);
		if (!good)
			break;
		progress_update(&progress, cat->printed_bytes, cat->printed);
		if (cat->follow) {
			if (out_reader_gone())
				break;
			/* Only the end of the stream is worth waiting at. */
			cat->read.wait_ms = WAIT_MS;
		} else if (count == 0 || cat->read.start_id >= cat->end) {
			break;
		}
	}
	progress_end(&progress);
	return EXIT_OK;
}

static int cat_with_interrupts(struct cat *cat)
{
	/* A write that has begun goes on: it would be cut off in an entry. A second one ends the program. */
	const struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)(SA_RESTART | SA_RESETHAND)};
	struct sigaction before;
	sigaction(SIGINT, &action, &before);
	if (before.sa_handler == SIG_IGN) /* as by nohup, or in a shell's background */
		sigaction(SIGINT, &before, NULL);
	int status = cat_run(cat);
	sigaction(SIGINT, &before, NULL);
	if (interrupted) {
		out_flush();
		(void)raise(SIGINT);
	}
	return status;
}

/* TOOL_GO_ON, or the exit status. */
static int cat_choose(struct cat *cat, const char *name)
{
	uint64_t number;
	cat->stream = name;
	if (!cat->of_shard)
		return TOOL_GO_ON;
	if (!tool_parse_u64(name, &number) || number > UINT32_MAX)
		return tool_usage(cat->tool, "'%s' is not a shard's number", name);
	cat->shard = (uint32_t)number;
	ironwal_shard_name(cat->shard, cat->shard_name);
	cat->stream = cat->shard_name;
	return TOOL_GO_ON;
}

int tool_cat(struct tool *tool, int argc, char **argv, bool of_shard)
{
	struct cat cat = {.tool = tool, .of_shard = of_shard, .left = UINT64_MAX, .read = IRONWAL_READ_OPTIONS_INIT};
	bool has_from = false;
	const struct option_row rows[] = {OPT_NUMBER("from", &has_from, &cat.read.start_id, "an id"),
		OPT_NUMBER("max", NULL, &cat.left, "a number of entries"), OPT_FLAG("follow", &cat.follow),
		STYLE_ROWS(cat.style), OPT_END};
	int status = tool_arguments(tool, argc, argv, rows, 1, 1);
	if (status != TOOL_GO_ON || (status = style_check(tool, &cat.style)) != TOOL_GO_ON)
		return status;
	cat.read.has_start_id = has_from;
	cat.read.max_bytes = READ_BYTES;
	if ((status = cat_choose(&cat, argv[optind])) != TOOL_GO_ON || (status = tool_connect(tool)) != TOOL_GO_ON)
		return status;
	if (tool->json)
		cat.style.json = json_new();
	status = cat_with_interrupts(&cat);
	if (cat.style.json != NULL)
		json_free(cat.style.json);
	return status;
}

static int run_cat(struct tool *tool, int argc, char **argv)
{
	return tool_cat(tool, argc, argv, false);
}

const struct command command_cat = {
	.name = "cat",
	.summary = "print the entries of a stream",
	.help = "usage: ironwal cat [OPTIONS] STREAM\n\n"
		"Prints the entries that are there, each followed by a newline, in order. On a terminal, control\n"
		"characters in them come as \\xNN.\n\n"
		"Options:\n"
		"  --from ID          begin there; else at the oldest entry kept\n"
		"  --max N            at most N entries\n"
		"  --follow           at the end, wait for more, until ^C\n"
		"  --raw              the bytes of the entries and nothing else, on a terminal too\n"
		"  --null             NUL bytes in place of the newlines\n"
		"  --ids              each with its id and a tab before it\n" TOOL_OPTIONS_HELP
		"                     with --json: a line for each, with \"id\", and \"entry\" or \"entry_base64\"\n\n"
		"Example:\n"
		"  ironwal cat --from 1 --max 10 --ids users\n"
		"  ironwal cat --null greetings | ironwal append --lines --null copy\n",
	.run = run_cat,
};
