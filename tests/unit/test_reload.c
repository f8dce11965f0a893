/* reload: all hooks or none, in their order; what cannot change stays, in the snapshot too. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "reload.h"

static char path[64], option[100], calls[200];
static char *argv[] = {(char *)"ironwald", (char *)"--root-path=/d", option, (char *)"--idle-timeout=5s", NULL};
static struct reload *reload;
static uint64_t prepared_streams;

static void write_config(const char *text)
{
	FILE *file = fopen(path, "w");
	cr_assert(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0, "file");
}

static void set_up(void)
{
	struct config config;
	enum config_action action;
	struct error err;
	snprintf(path, sizeof(path), "/tmp/test_reload.XXXXXX");
	close(mkstemp(path));
	snprintf(option, sizeof(option), "--config=%s", path);
	write_config("sync_mode = async\n");
	log_set_level(LOG_LEVEL_ERROR);
	cr_assert(config_load(4, argv, &config, &action, &err) == 0, "%s", err.message);
	cr_assert(reload_new(4, argv, &config, &reload, &err) == 0, "%s", err.message);
}

static void tear_down(void)
{
	reload_free(reload);
	unlink(path);
}

TestSuite(reload, .init = set_up, .fini = tear_down, .timeout = 30);

static void note(const char *what, const void *arg)
{
	strcat(calls, what);
	strcat(calls, arg);
	strcat(calls, " ");
}

static int prepare(const struct config *config, void *arg, struct error *err)
{
	(void)err;
	prepared_streams = config->engine.max_streams;
	note("prepare-", arg);
	return 0;
}

static int refuse(const struct config *config, void *arg, struct error *err)
{
	(void)config;
	note("refuse-", arg);
	return error_set(err, ERR_CONFIG, "no");
}

static void apply(const struct config *config, void *arg)
{
	cr_assert(config == reload_current(reload), "the new one is current");
	note("apply-", arg);
}

static void drop(void *arg)
{
	note("drop-", arg);
}

static void add(const char *name, bool refuses)
{
	reload_add_hook(reload, &(struct reload_hook){refuses ? refuse : prepare, apply, drop, (void *)name});
}

Test(reload, hooks_are_called_in_their_order)
{
	struct error err;
	add("a", false);
	reload_add_hook(reload, &(struct reload_hook){0});
	add("b", false);
	write_config("max_streams = 7\n");
	const struct config *before = reload_current(reload);
	cr_assert(reload_prepare(reload, &err) == 0, "%s", err.message);
	cr_assert(strcmp(calls, "prepare-a prepare-b ") == 0 && prepared_streams == 7, "%s", calls);
	cr_assert(reload_current(reload) == before && before->engine.max_streams == 1000000, "nothing has changed yet");
	reload_apply(reload);
	cr_assert(strcmp(calls, "prepare-a prepare-b apply-a apply-b ") == 0, "%s", calls);
	cr_assert(reload_current(reload)->engine.max_streams == 7, "it has");
}

Test(reload, one_that_refuses_undoes_all)
{
	struct error err;
	add("a", false);
	add("b", false);
	add("c", true);
	add("d", false);
	write_config("max_streams = 7\n");
	cr_assert(reload_prepare(reload, &err) == -1 && strcmp(err.message, "no") == 0, "%s", err.message);
	cr_assert(strcmp(calls, "prepare-a prepare-b refuse-c drop-b drop-a ") == 0, "%s", calls);
	cr_assert(reload_current(reload)->engine.max_streams == 1000000, "as it was");
}

Test(reload, what_cannot_change_stays_and_options_win)
{
	struct error err;
	write_config("sync_mode = batch_only\nmax_message_bytes = 1M\nidle_timeout = 9s\nwrite_timeout = 8s\n");
	cr_assert(reload_prepare(reload, &err) == 0, "%s", err.message);
	reload_apply(reload);
	const struct config *config = reload_current(reload);
	cr_assert(config->engine.sync_mode == SYNC_ASYNC, "sync_mode");
	cr_assert(config->max_message_bytes == 16u << 20 && config->engine.max_entry_bytes > 15u << 20, "messages");
	cr_assert(config->idle_timeout_ns == UINT64_C(5000000000), "the command line's");
	cr_assert(config->write_timeout_ns == UINT64_C(8000000000), "the file's");
	write_config("write_timeout = 0s\n");
	cr_assert(reload_prepare(reload, &err) == -1 && strstr(err.message, ":1: write_timeout: bad value") != NULL,
		"%s", err.message);
	cr_assert(reload_current(reload) == config, "a bad file changes nothing");
	write_config("");
	cr_assert(reload_prepare(reload, &err) == 0, "%s", err.message);
	reload_apply(reload);
	cr_assert(reload_current(reload)->write_timeout_ns == UINT64_C(30000000000), "back to the default");
}
