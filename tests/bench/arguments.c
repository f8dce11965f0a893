#include "arguments.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define SECONDS_MAX 86400.0

int refuse(const char *format, ...)
{
	va_list args;
	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return -1;
}

int parse_number(const char *name, const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	char *end;
	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < min || value > max)
		return refuse("--%s %s: a number from %llu to %llu is expected", name, text, (unsigned long long)min,
			(unsigned long long)max);
	*ret = value;
	return 0;
}

int parse_seconds(const char *name, const char *text, double min, uint64_t *ret_ns)
{
	char *end;
	double value = strtod(text, &end);
	if (end == text || *end != '\0' || !(value >= min && value <= SECONDS_MAX))
		return refuse("--%s %s: seconds from %g to %g are expected", name, text, min, SECONDS_MAX);
	*ret_ns = (uint64_t)(value * (double)NS_PER_SECOND);
	return 0;
}

int take_common(struct common_options *options, int code, const char *name, const char *text, const char *usage)
{
	switch (code) {
	case OPTION_DURATION:
		return parse_seconds(name, text, 0.01, &options->duration_ns);
	case OPTION_WARMUP:
		return parse_seconds(name, text, 0, &options->warmup_ns);
	case OPTION_JSON:
		options->json = true;
		return 0;
	case OPTION_HELP:
		fputs(usage, stdout);
		return 1;
	default:
		return refuse("--help tells what there is"); /* getopt said what it did not like */
	}
}
