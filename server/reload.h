/*
 * reload: the configuration that holds now, and how another one takes its place while the daemon runs.
 *
 * Owns the snapshot: a struct config that nobody changes; a reload makes a new one, and the old one goes. For the main
 * thread, but for reload_prepare, which any one thread may call while no other calls anything here.
 * Invariant: a reload takes place as a whole or not at all, and the keys that cannot change (config_table.h) have in
 * every snapshot the values of the first.
 *
 * What else is to be read again on SIGHUP (files that the configuration names) has a hook. All prepare_cb are called in
 * the order in which they were added; if one refuses, those before it drop what they have prepared, and what held
 * before still holds. Else all apply_cb are called, in the same order.
 */
#ifndef IRONWALD_RELOAD_H
#define IRONWALD_RELOAD_H

#include "config.h"
#include "error.h"

#define RELOAD_HOOKS_MAX 8

struct reload;

/* Callbacks that are not needed may be NULL. */
struct reload_hook {
	/* Reads and checks, may wait for files, changes nothing that is in use. -1 with err: the reload is refused;
	 * err->message is one line that says what, where, and what to do. */
	int (*prepare_cb)(const struct config *config, void *arg, struct error *err);
	/* [loop] Puts in place what was prepared. Cannot fail. config is the new snapshot, good until the next. */
	void (*apply_cb)(const struct config *config, void *arg);
	/* Gives up what was prepared. */
	void (*drop_cb)(void *arg);
	void *arg;
};

/* config: the first snapshot, which is copied, as config_load made it from these arguments, which are kept. */
int reload_new(int argc, char **argv, const struct config *config, struct reload **ret_reload, struct error *err);
void reload_free(struct reload *reload); /* NULL is legal */

const struct config *reload_current(const struct reload *reload);

/* Before the first reload; at most RELOAD_HOOKS_MAX. */
void reload_add_hook(struct reload *reload, const struct reload_hook *hook);

/* Reads the command line's file again, and lets the hooks prepare. -1: refused, nothing has changed. */
int reload_prepare(struct reload *reload, struct error *err);

/* [loop] After a prepare that went well: logs what changes, and what does not and waits for a restart, by key; then
 * puts it in place. */
void reload_apply(struct reload *reload);

#endif
