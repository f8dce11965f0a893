/* The engine's recovery as the first check of all: verify cannot disagree with what a start would do. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "overlay.h"

bool check_was_there(const struct check *check, const char *path)
{
	return check->below->ops->exists(check->below, path) == 1;
}

static void open_options(struct engine_options *options, uint32_t shard_count)
{
	engine_options_default(options);
	options->on_corruption = ON_CORRUPTION_TRUNCATE;
	options->shard_count = shard_count;
	options->max_streams = UINT64_MAX;
}

static int try_open(struct check *check, uint32_t shard_count, struct error *err)
{
	const struct engine_hooks hooks = {.no_threads = true, .found_cb = check_found, .found_arg = check};
	struct engine_options options;
	open_options(&options, shard_count);
	err->code = ERR_NONE;
	int r = engine_open(check->io, &options, &hooks, &check->engine, err);
	if (r != 0)
		check->engine = NULL;
	return r;
}

struct root {
	bool ours, foreign;
};

static int root_cb(const char *name, bool is_dir, void *arg)
{
	struct root *root = arg;
	(void)is_dir;
	/* What stands there before a manifest does. */
	if (strcmp(name, LOCK_PATH) == 0 || strcmp(name, MANIFEST_PATH ".new") == 0 || strcmp(name, "lost+found") == 0)
		return 0;
	bool ours = strncmp(name, NAMES_OWN_PREFIX, strlen(NAMES_OWN_PREFIX)) == 0;
	root->ours |= ours;
	root->foreign |= !ours;
	return 0;
}

/* Without a manifest it is none of ours, or it has lost it. */
static enum fsck_status no_manifest(struct check *check, struct error *err)
{
	struct root root = {0};
	int r = check->below->ops->list_dir(check->below, "", root_cb, &root);
	if (r != 0) {
		error_set_io(err, -r, "list", "the data directory");
		return STATUS_FAILED;
	}
	if (!root.ours) {
		error_set(err, ERR_CONFIG, "there is no %s: not a data directory of ironwald%s", MANIFEST_PATH,
			root.foreign ? "" : " (it is empty)");
		return STATUS_FAILED;
	}
	const struct finding finding = {SEVERITY_DAMAGE, "manifest", .file = MANIFEST_PATH,
		.text = "it is missing: restore it from a copy; it says format version and shard count"};
	report_add(check->report, &finding);
	return STATUS_DAMAGE;
}

static bool is_damage(const struct check *check, const struct error *err)
{
	switch (err->code) {
	case ERR_CORRUPTION:
	case ERR_CRC_MISMATCH:
	case ERR_SERIALIZATION:
		return true;
	case ERR_IO:
		/* On an overlay nothing is written: it is a read that failed. */
		return err->os_errno == EBADMSG || (err->os_errno == EIO && check->io != check->below);
	default:
		return false;
	}
}

enum fsck_status check_open(struct check *check, struct error *err)
{
	int there = check->below->ops->exists(check->below, MANIFEST_PATH);
	if (there < 0) {
		error_set_io(err, -there, "look for", MANIFEST_PATH);
		return STATUS_FAILED;
	}
	if (there == 0)
		return no_manifest(check, err);
	int r = try_open(check, 1, err);
	if (r != 0 && err->code == ERR_SHARD_COUNT_MISMATCH) /* told before anything is looked at */
		r = try_open(check, (uint32_t)err->found, err);
	if (r == 0)
		return STATUS_CLEAN;
	if (!is_damage(check, err))
		return STATUS_FAILED;
	const struct finding finding = {SEVERITY_DAMAGE, "start", .text = err->message};
	report_add(check->report, &finding);
	return STATUS_DAMAGE;
}

void check_free(struct check *check)
{
	if (check->engine)
		engine_abandon(check->engine);
	check->engine = NULL;
	window_free(&check->window);
	buf_free(&check->raw);
}
