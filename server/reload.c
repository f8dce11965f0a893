#include "reload.h"

#include <stdlib.h>
#include <string.h>

#include "config_table.h"
#include "config_value.h"
#include "log.h"

#define VALUE_MAX 200

struct reload {
	int argc;
	char **argv;
	struct config *current;
	struct config *next;   /* prepared, NULL: nothing is */
	struct config *loaded; /* what was read for it */
	struct reload_hook hooks[RELOAD_HOOKS_MAX];
	size_t hook_count;
};

static struct config *copy_of(const struct config *config)
{
	struct config *copy = malloc(sizeof(*copy));

	if (copy != NULL)
		*copy = *config;
	return copy;
}

int reload_new(int argc, char **argv, const struct config *config, struct reload **ret_reload, struct error *err)
{
	struct reload *reload = calloc(1, sizeof(*reload));

	if (reload != NULL)
		reload->current = copy_of(config);
	if (reload == NULL || reload->current == NULL) {
		free(reload);
		return error_set(err, ERR_CONFIG, "no memory for the configuration");
	}
	reload->argc = argc;
	reload->argv = argv;
	*ret_reload = reload;
	return 0;
}

static void forget_prepared(struct reload *reload)
{
	free(reload->next);
	free(reload->loaded);
	reload->next = reload->loaded = NULL;
}

void reload_free(struct reload *reload)
{
	if (reload == NULL)
		return;
	forget_prepared(reload);
	free(reload->current);
	free(reload);
}

const struct config *reload_current(const struct reload *reload)
{
	return reload->current;
}

void reload_add_hook(struct reload *reload, const struct reload_hook *hook)
{
	if (reload->hook_count == RELOAD_HOOKS_MAX)
		abort();
	reload->hooks[reload->hook_count++] = *hook;
}

static int load(struct reload *reload, struct error *err)
{
	enum config_action action;

	reload->loaded = malloc(sizeof(*reload->loaded));
	reload->next = copy_of(reload->current);
	if (reload->loaded == NULL || reload->next == NULL)
		return error_set(err, ERR_CONFIG, "no memory for the configuration");
	if (config_load(reload->argc, reload->argv, reload->loaded, &action, err) != 0)
		return -1;
	for (size_t i = 0; i < config_key_count; i++) {
		if (config_keys[i].reload)
			config_value_copy(reload->next, reload->loaded, &config_keys[i]);
	}
	return 0;
}

int reload_prepare(struct reload *reload, struct error *err)
{
	size_t prepared = 0;
	int result = load(reload, err);

	while (result == 0 && prepared < reload->hook_count) {
		const struct reload_hook *hook = &reload->hooks[prepared];
		if (hook->prepare_cb != NULL)
			result = hook->prepare_cb(reload->next, hook->arg, err);
		prepared += result == 0;
	}
	if (result == 0)
		return 0;
	while (prepared > 0) {
		const struct reload_hook *hook = &reload->hooks[--prepared];
		if (hook->drop_cb != NULL)
			hook->drop_cb(hook->arg);
	}
	forget_prepared(reload);
	return -1;
}

static void tell(const struct reload *reload, const struct config_key *key)
{
	char before[VALUE_MAX], after[VALUE_MAX];

	if (config_value_same(reload->current, reload->loaded, key))
		return;
	config_value_text(reload->current, key, before, sizeof(before));
	config_value_text(reload->loaded, key, after, sizeof(after));
	if (key->reload)
		log_info("main", "reload: %s is %s now, it was %s", key->name, after, before);
	else
		log_warn("main", "reload: %s stays %s: it cannot change while running; %s holds from the next start on",
			key->name, before, after);
}

void reload_apply(struct reload *reload)
{
	for (size_t i = 0; i < config_key_count; i++)
		tell(reload, &config_keys[i]);

	struct config *old = reload->current;
	reload->current = reload->next;
	reload->next = NULL;
	for (size_t i = 0; i < reload->hook_count; i++) {
		const struct reload_hook *hook = &reload->hooks[i];
		if (hook->apply_cb != NULL)
			hook->apply_cb(reload->current, hook->arg);
	}
	free(old);
	forget_prepared(reload);
}
