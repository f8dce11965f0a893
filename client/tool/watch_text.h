/*
 * watch_text: figures in few characters, for people.
 *
 * Owns nothing; any thread may call it.
 * Invariant: what is not known is "-"; at most 15 characters.
 */
#ifndef IRONWAL_WATCH_TEXT_H
#define IRONWAL_WATCH_TEXT_H

#include "watch_figures.h"

struct watch_text {
	char text[16];
};

struct watch_text watch_text_number(double value);  /* "0.5", "1234", "56.7k" */
struct watch_text watch_text_bytes(double value);   /* "512 B", "1.5 MiB" */
struct watch_text watch_text_us(double value);	    /* "87 us", "1.5 ms", "2.0 s" */
struct watch_text watch_text_seconds(double value); /* "12 s", "1:02:03", "5d 06:07:08" */
/* As a double; NAN if it is not known. */
double watch_value(struct watch_count count);

#endif
