/* Errors that outlive the call that met them. In a file of its own: who keeps none needs no heap for errors. */
#include "error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What is said where there is no memory to say more, by outcome. Filled at compile time: it has to be there always. */
#define NO_MEMORY(what)                                                                                                \
	{                                                                                                              \
		.code = ERR_IO, .fields = EF(OS_ERRNO) | EF(PATH) | EF(OUTCOME), .os_errno = ENOMEM,                   \
		.outcome = (what), .errno_name = "ENOMEM",                                                             \
		.message = "out of memory, also for the error itself: see the log, try later",                         \
	}
static const struct error no_memory[] = {
	[OUTCOME_NONE] = NO_MEMORY(OUTCOME_NONE),
	[OUTCOME_UNKNOWN] = NO_MEMORY(OUTCOME_UNKNOWN),
};

static bool is_static(const struct error *e)
{
	return e == &no_memory[OUTCOME_NONE] || e == &no_memory[OUTCOME_UNKNOWN];
}

struct error *error_copy(const struct error *from)
{
	struct error *copy = malloc(sizeof(*copy));
	if (copy == NULL)
		return (struct error *)&no_memory[from->outcome == OUTCOME_UNKNOWN ? OUTCOME_UNKNOWN : OUTCOME_NONE];
	memcpy(copy, from, sizeof(*copy));
	return copy;
}

void error_free(struct error *e)
{
	if (!is_static(e))
		free(e);
}
