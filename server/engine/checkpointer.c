#include "checkpointer.h"

#include <errno.h>
#include <stdlib.h>

#include "log.h"
#include "writer.h"

struct checkpointer {
	struct chore chore; /* the first member */
	struct engine *engine;
	struct chores *chores;
	struct checkpoint_log *log;

	pthread_mutex_t lock;
	struct op *queue, **queue_last;
	bool scheduled;

	/* its thread's */
	struct op *slow, **slow_last; /* lists and compactions that are not done */
	struct checkpoint_op own;     /* a compaction that nobody asked for */
	bool own_is_slow;
};

static void push(struct op ***last, struct op *op)
{
	op->next = NULL;
	**last = op;
	*last = &op->next;
}

static struct checkpoint_op *of(struct op *op)
{
	return (struct checkpoint_op *)op;
}

/* All that is live is kept. If it fails, it is tried again with the next creation. */
static void compact_stale(struct checkpointer *checkpointer)
{
	if (checkpointer->own_is_slow || !checkpoint_log_is_stale(checkpointer->log))
		return;
	checkpointer->own = (struct checkpoint_op){.op.kind = OP_COMPACT_CHECKPOINTS, .keep = UINT64_MAX};
	checkpointer->own_is_slow = true;
	push(&checkpointer->slow_last, &checkpointer->own.op);
}

static void own_done(struct checkpointer *checkpointer)
{
	const struct error *err = checkpointer->own.op.error;
	if (err)
		log_warn("engine", "checkpoint log: compaction of replaced records: %s", err->message);
	error_free(checkpointer->own.op.error);
	checkpointer->own_is_slow = false;
}

/* The creations at the front, as many as one write takes; *ops is what is behind them. */
static void create_group(struct checkpointer *checkpointer, struct op **ops)
{
	struct op *first = *ops, *last = first;
	size_t bytes = 0;
	for (struct op *op = first; op && op->kind == OP_CREATE_CHECKPOINT; op = op->next) {
		bytes += checkpoint_record_bytes(checkpointer->log->shard_count, (uint32_t)of(op)->id_len);
		if (op != first && bytes > CHECKPOINT_GROUP_BYTES)
			break;
		last = op;
	}
	*ops = last->next;
	last->next = NULL;
	checkpoint_log_create(checkpointer->log, of(first));
	compact_stale(checkpointer);
	engine_complete(checkpointer->engine, first, last);
}

static void begin_all(struct checkpointer *checkpointer, struct op *ops)
{
	while (ops) {
		struct op *op = ops;
		if (op->kind == OP_CREATE_CHECKPOINT) {
			create_group(checkpointer, &ops);
			continue;
		}
		ops = op->next;
		if (op->kind == OP_LIST_CHECKPOINTS || op->kind == OP_COMPACT_CHECKPOINTS) {
			push(&checkpointer->slow_last, op);
			continue;
		}
		if (op->kind == OP_LOAD_LATEST_CHECKPOINT)
			checkpoint_log_latest(checkpointer->log, of(op));
		else
			checkpoint_log_load(checkpointer->log, of(op));
		engine_complete(checkpointer->engine, op, op);
	}
}

/* A piece of each. */
static void go_on(struct checkpointer *checkpointer)
{
	struct op *op = checkpointer->slow;
	checkpointer->slow = NULL;
	checkpointer->slow_last = &checkpointer->slow;
	for (struct op *next; op; op = next) {
		next = op->next;
		bool done = op->kind == OP_LIST_CHECKPOINTS ? checkpoint_log_list(checkpointer->log, of(op))
							    : checkpoint_log_compact(checkpointer->log, of(op));
		if (done && op == &checkpointer->own.op)
			own_done(checkpointer);
		else if (done)
			engine_complete(checkpointer->engine, op, op);
		else
			push(&checkpointer->slow_last, op);
	}
}

static enum chore_result run(struct chore *chore)
{
	struct checkpointer *checkpointer = (struct checkpointer *)chore;
	pthread_mutex_lock(&checkpointer->lock);
	struct op *ops = checkpointer->queue;
	checkpointer->queue = NULL;
	checkpointer->queue_last = &checkpointer->queue;
	pthread_mutex_unlock(&checkpointer->lock);
	begin_all(checkpointer, ops);
	go_on(checkpointer);
	pthread_mutex_lock(&checkpointer->lock);
	bool again = checkpointer->queue || checkpointer->slow;
	checkpointer->scheduled = again;
	pthread_mutex_unlock(&checkpointer->lock);
	if (again)
		chores_add(checkpointer->chores, &checkpointer->chore);
	return CHORE_DONE;
}

/* The log counts on the data directory, as the writers do. */
static int sync_root(void *arg)
{
	return writer_sync_root(arg);
}

int checkpointer_start(
	struct engine *engine, bool threads, struct checkpoint_log *log, struct checkpointer **ret_checkpointer)
{
	struct checkpointer *checkpointer = calloc(1, sizeof(*checkpointer));
	int r = checkpointer ? chores_start(threads, "checkpointer", true, &checkpointer->chores) : -ENOMEM;
	if (r != 0) {
		free(checkpointer);
		checkpoint_log_close(log);
		return r;
	}
	checkpointer->chore.run = run;
	checkpointer->engine = engine;
	checkpointer->log = log;
	log->sync_root = sync_root;
	log->sync_root_arg = engine;
	pthread_mutex_init(&checkpointer->lock, NULL);
	checkpointer->queue_last = &checkpointer->queue;
	checkpointer->slow_last = &checkpointer->slow;
	*ret_checkpointer = checkpointer;
	return 0;
}

void checkpointer_stop(struct checkpointer *checkpointer)
{
	if (!checkpointer)
		return;
	chores_drain(checkpointer->chores);
	chores_stop(checkpointer->chores);
	checkpoint_log_close(checkpointer->log);
	pthread_mutex_destroy(&checkpointer->lock);
	free(checkpointer);
}

void checkpointer_submit(struct checkpointer *checkpointer, struct checkpoint_op *op)
{
	pthread_mutex_lock(&checkpointer->lock);
	push(&checkpointer->queue_last, &op->op);
	bool scheduled = checkpointer->scheduled;
	checkpointer->scheduled = true;
	pthread_mutex_unlock(&checkpointer->lock);
	if (!scheduled)
		chores_add(checkpointer->chores, &checkpointer->chore);
}

bool checkpointer_step(struct checkpointer *checkpointer)
{
	return chores_step(checkpointer->chores);
}

void checkpointer_drop(struct checkpointer *checkpointer)
{
	checkpointer->queue = checkpointer->slow = NULL;
	error_free(checkpointer->own.op.error);
	checkpointer->queue_last = &checkpointer->queue;
	checkpointer->slow_last = &checkpointer->slow;
}

int checkpointer_mark_end(struct checkpointer *checkpointer, struct error *err)
{
	chores_drain(checkpointer->chores);
	return checkpoint_log_mark_end(checkpointer->log, err);
}

struct checkpoint_log *checkpointer_log(struct checkpointer *checkpointer)
{
	return checkpointer->log;
}
