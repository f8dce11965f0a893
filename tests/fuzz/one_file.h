/*
 * one_file: an io with one file in memory, for what reads a single file and is to be tried millions of times.
 *
 * Owns the file's bytes. One thread.
 * Invariant: a read gets all that there is, as io.h says; what is not in io_ops here ends the program.
 */
#ifndef IRONWALD_FUZZ_ONE_FILE_H
#define IRONWALD_FUZZ_ONE_FILE_H

#include "io.h"

#define ONE_FILE_PATH "one"

struct one_file {
	struct io io;
	uint8_t *bytes; /* NULL: there is no file, until it is made */
	size_t len;
	bool may_write;
	unsigned opened;
};

/* bytes, len and may_write are the caller's to set before; bytes are of malloc. */
void one_file_init(struct one_file *file);
/* Checks that it was closed as often as it was opened. */
void one_file_free(struct one_file *file);

#endif
