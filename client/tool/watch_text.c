#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "watch_text.h"

__attribute__((format(printf, 1, 2))) static struct watch_text say(const char *format, ...)
{
	struct watch_text said;
	va_list args;
	va_start(args, format);
	(void)vsnprintf(said.text, sizeof(said.text), format, args);
	va_end(args);
	return said;
}

/* So much of a unit that the next one, `step` times as large, is not to be used yet. */
static struct watch_text scaled(double value, double step, const char *const *units, size_t count)
{
	size_t unit = 0;
	while (unit + 1 < count && value >= step) {
		value /= step;
		unit++;
	}
	return say("%.*f%s", unit > 0 && value < 100 ? 1 : 0, fmin(value, 99999), units[unit]);
}

struct watch_text watch_text_number(double value)
{
	static const char *const units[] = {"k", "M", "G", "T", "P"};
	if (isnan(value))
		return say("-");
	if (value < 10000)
		return say("%.*f", value < 100 && value > 0 && floor(value) != value ? 1 : 0, value);
	return scaled(value / 1000, 1000, units, sizeof(units) / sizeof(units[0]));
}

struct watch_text watch_text_bytes(double value)
{
	static const char *const units[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB"};
	return isnan(value) ? say("-") : scaled(value, 1024, units, sizeof(units) / sizeof(units[0]));
}

struct watch_text watch_text_us(double value)
{
	static const char *const units[] = {" us", " ms", " s"};
	return isnan(value) ? say("-") : scaled(value, 1000, units, sizeof(units) / sizeof(units[0]));
}

struct watch_text watch_text_seconds(double value)
{
	if (isnan(value))
		return say("-");
	const unsigned long long seconds = (unsigned long long)fmin(value, 86400.0 * 99999);
	const unsigned hours = (unsigned)(seconds / 3600 % 24), minutes = (unsigned)(seconds / 60 % 60);
	if (seconds >= 86400)
		return say("%llud %02u:%02u:%02u", seconds / 86400, hours, minutes, (unsigned)(seconds % 60));
	if (seconds >= 60)
		return say("%u:%02u:%02u", hours, minutes, (unsigned)(seconds % 60));
	return say("%llu s", seconds);
}

double watch_value(struct watch_count count)
{
	return count.known ? (double)count.n : NAN;
}
