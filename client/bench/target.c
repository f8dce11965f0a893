#include "target.h"

#include <stdarg.h>
#include <stdio.h>

void answer_fail(struct answer *answer, const char *code, const char *format, ...)
{
	va_list args;
	answer->failed = true;
	(void)snprintf(answer->code, sizeof(answer->code), "%s", code);
	va_start(args, format);
	(void)vsnprintf(answer->error, sizeof(answer->error), format, args);
	va_end(args);
}
