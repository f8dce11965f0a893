#include "engine_plan.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "arguments.h"
#include "clock.h"

#define PAYLOAD_MAX (UINT64_C(8) << 20)
#define BATCH_MAX UINT64_C(1000000)
#define STREAMS_MAX UINT64_C(100000)
#define SHARDS_MAX UINT64_C(65535)
#define PREFILL_MAX UINT64_C(1000000000)

static const char usage[] =
	"engine: the log on disk without sockets: one thread hands requests in and takes them back, in a closed loop\n"
	"\n"
	"  --root-path DIR        the data directory; made if it is not there, and left (needed)\n"
	"  --op OP                append, get (one entry at random) or iter (the next --batch entries) (append)\n"
	"  --sync-mode MODE       strict, batch_only or async (strict)\n"
	"  --clients N            append: (1)\n"
	"  --depth N              append: requests in flight of each client (1)\n"
	"  --payload BYTES        of an entry, random (100)\n"
	"  --batch N              entries of a request (1)\n"
	"  --streams N            each request goes to one of so many at random; they are made before (1)\n"
	"  --shards N             the same with the logs of shards\n"
	"  --prefill N            get, iter: entries put into each stream before (100000)\n"
	"  --duration SECONDS     measured for so long (2)\n"
	"  --warmup SECONDS       the same before, not measured (0.3)\n"
	"  --json                 one JSON object instead of lines\n"
	"\n"
	"get and iter are done one after the other by the one thread. Exit status 1 if anything failed.\n";

static const char *const op_names[] = {
	[ENGINE_APPEND] = "append",
	[ENGINE_GET] = "get",
	[ENGINE_ITER] = "iter",
};
static const char *const mode_names[] = {
	[SYNC_STRICT] = "strict",
	[SYNC_BATCH_ONLY] = "batch_only",
	[SYNC_ASYNC] = "async",
};

const char *engine_op_name(enum engine_op op)
{
	return op_names[op];
}

const char *sync_mode_name(enum sync_mode mode)
{
	return mode_names[mode];
}

/* The index of text in names, or -1 after saying so. */
static int parse_word(const char *name, const char *text, const char *const names[], int count)
{
	for (int i = 0; i < count; i++)
		if (strcmp(text, names[i]) == 0)
			return i;
	return refuse("--%s %s: %s, %s or %s is expected", name, text, names[0], names[1], names[2]);
}

enum option_code {
	OPTION_ROOT_PATH = OPTION_OWN,
	OPTION_OP,
	OPTION_SYNC_MODE,
	OPTION_CLIENTS,
	OPTION_DEPTH,
	OPTION_PAYLOAD,
	OPTION_BATCH,
	OPTION_STREAMS,
	OPTION_SHARDS,
	OPTION_PREFILL,
};

static int take(struct engine_plan *plan, int code, const char *name, const char *text)
{
	int word;
	switch (code) {
	case OPTION_ROOT_PATH:
		plan->root_path = text;
		return 0;
	case OPTION_OP:
		word = parse_word(name, text, op_names, 3);
		plan->op = word >= 0 ? (enum engine_op)word : ENGINE_APPEND;
		return word >= 0 ? 0 : -1;
	case OPTION_SYNC_MODE:
		word = parse_word(name, text, mode_names, 3);
		plan->sync_mode = word >= 0 ? (enum sync_mode)word : SYNC_STRICT;
		return word >= 0 ? 0 : -1;
	case OPTION_CLIENTS:
		return parse_number(name, text, 1, IN_FLIGHT_MAX, &plan->clients_count);
	case OPTION_DEPTH:
		return parse_number(name, text, 1, IN_FLIGHT_MAX, &plan->depth);
	case OPTION_PAYLOAD:
		return parse_number(name, text, 0, PAYLOAD_MAX, &plan->payload_bytes);
	case OPTION_BATCH:
		return parse_number(name, text, 1, BATCH_MAX, &plan->batch_count);
	case OPTION_STREAMS:
		plan->by_shard = false;
		return parse_number(name, text, 1, STREAMS_MAX, &plan->streams_count);
	case OPTION_SHARDS:
		plan->by_shard = true;
		return parse_number(name, text, 1, SHARDS_MAX, &plan->streams_count);
	case OPTION_PREFILL:
		return parse_number(name, text, 1, PREFILL_MAX, &plan->prefill_count);
	default:
		return take_common(&plan->common, code, name, text, usage);
	}
}

static int check(const struct engine_plan *plan)
{
	if (plan->root_path == NULL)
		return refuse("--root-path is needed: the data directory");
	if (plan->clients_count * plan->depth > IN_FLIGHT_MAX)
		return refuse("--clients times --depth is over %llu", (unsigned long long)IN_FLIGHT_MAX);
	if (plan->clients_count * plan->depth * plan->batch_count > IN_FLIGHT_BYTES_MAX / (plan->payload_bytes + 1))
		return refuse("the entries in flight are over 1 GiB: fewer --clients, --depth, --batch or a smaller "
			      "--payload");
	if (plan->op == ENGINE_GET && plan->batch_count > 1)
		return refuse("--batch is for append and iter");
	if (plan->op == ENGINE_ITER && plan->batch_count > plan->prefill_count)
		return refuse("--batch of an iter is at most --prefill");
	return 0;
}

int engine_plan_parse(struct engine_plan *plan, int argc, char **argv)
{
	static const struct option table[] = {
		{"root-path", required_argument, NULL, OPTION_ROOT_PATH},
		{"op", required_argument, NULL, OPTION_OP},
		{"sync-mode", required_argument, NULL, OPTION_SYNC_MODE},
		{"clients", required_argument, NULL, OPTION_CLIENTS},
		{"depth", required_argument, NULL, OPTION_DEPTH},
		{"payload", required_argument, NULL, OPTION_PAYLOAD},
		{"batch", required_argument, NULL, OPTION_BATCH},
		{"streams", required_argument, NULL, OPTION_STREAMS},
		{"shards", required_argument, NULL, OPTION_SHARDS},
		{"prefill", required_argument, NULL, OPTION_PREFILL},
		COMMON_OPTIONS,
		{0},
	};
	*plan = (struct engine_plan){
		.sync_mode = SYNC_STRICT,
		.clients_count = 1,
		.depth = 1,
		.payload_bytes = 100,
		.batch_count = 1,
		.streams_count = 1,
		.prefill_count = 100000,
		.common = COMMON_DEFAULTS,
	};
	int code, index = 0;
	while ((code = getopt_long(argc, argv, "", table, &index)) != -1) {
		int result = take(plan, code, table[index].name, optarg);
		if (result != 0)
			return result;
	}
	if (optind < argc)
		return refuse("%s: what is this? --help tells what there is", argv[optind]);
	return check(plan);
}
