#include "figures.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void figures_merge(struct figures *sum, const struct figures *other)
{
	sum->answers += counter_get(&other->answers);
	sum->errors += counter_get(&other->errors);
	sum->entries += counter_get(&other->entries);
	sum->bytes += counter_get(&other->bytes);
	histogram_merge(&sum->latency_ns, &other->latency_ns);
}

static struct complaint_kind *kind_of(struct complaints *complaints, const char *code)
{
	for (size_t i = 0; i < complaints->kinds_count; i++)
		if (strcmp(complaints->kinds[i].code, code) == 0)
			return &complaints->kinds[i];
	if (complaints->kinds_count == COMPLAINT_KINDS)
		return &complaints->kinds[COMPLAINT_KINDS - 1];
	struct complaint_kind *kind = &complaints->kinds[complaints->kinds_count++];
	(void)snprintf(
		kind->code, sizeof(kind->code), "%s", complaints->kinds_count < COMPLAINT_KINDS ? code : "(others)");
	return kind;
}

void complain(struct complaints *complaints, const char *code, const char *format, ...)
{
	va_list args;
	complaints->count++;
	kind_of(complaints, code)->count++;
	if (complaints->shown_count == COMPLAINTS_SHOWN)
		return;
	va_start(args, format);
	(void)vsnprintf(complaints->shown[complaints->shown_count++], COMPLAINT_BYTES, format, args);
	va_end(args);
}

void complaints_merge(struct complaints *sum, const struct complaints *other)
{
	sum->count += other->count;
	for (size_t i = 0; i < other->kinds_count; i++)
		kind_of(sum, other->kinds[i].code)->count += other->kinds[i].count;
	for (size_t i = 0; i < other->shown_count && sum->shown_count < COMPLAINTS_SHOWN; i++)
		memcpy(sum->shown[sum->shown_count++], other->shown[i], COMPLAINT_BYTES);
}

uint64_t complaints_of(const struct complaints *complaints, const char *code)
{
	for (size_t i = 0; i < complaints->kinds_count; i++)
		if (strcmp(complaints->kinds[i].code, code) == 0)
			return complaints->kinds[i].count;
	return 0;
}

int fault_set(struct fault *fault, enum fault_kind kind, const char *format, ...)
{
	va_list args;
	if (fault->kind != FAULT_NONE)
		return -1;
	fault->kind = kind;
	va_start(args, format);
	(void)vsnprintf(fault->text, sizeof(fault->text), format, args);
	va_end(args);
	return -1;
}
