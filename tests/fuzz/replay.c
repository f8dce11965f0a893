/*
 * replay: runs a fuzzer's target over files and directories, where there is no libFuzzer. Says how many, and which one
 * is being run if it ends the program.
 *
 *   fuzz_NAME PATH...         the corpus, or what a fuzzer has found
 *   fuzz_NAME --every PATH    the same, and each file cut off at each byte, and with each byte changed
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"

static char current[4096];
static unsigned long runs;
static int every;

static void say_which(int number)
{
	static const char text[] = "\nthis ended it: ";
	ssize_t r = write(2, text, sizeof(text) - 1);
	r += write(2, current, strlen(current));
	r += write(2, "\n", 1);
	(void)r;
	signal(number, SIG_DFL);
	raise(number);
}

/* Only mutators ask for it, and nothing is mutated here. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size)
{
	(void)data;
	(void)max_size;
	return size;
}

static void run(const uint8_t *bytes, size_t len)
{
	uint8_t *copy = fuzz_copy(bytes, len);
	(void)LLVMFuzzerTestOneInput(copy, len);
	free(copy);
	runs++;
}

static void run_variants(uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		uint8_t was = bytes[i];
		run(bytes, i);
		for (unsigned bit = 0; bit < 8; bit += 3) {
			bytes[i] = (uint8_t)(was ^ 1u << bit);
			run(bytes, len);
		}
		bytes[i] = was;
	}
}

static int run_file(const char *path)
{
	snprintf(current, sizeof(current), "%s", path);
	FILE *file = fopen(path, "rb");
	struct stat status;
	if (file == NULL || fstat(fileno(file), &status) != 0) {
		perror(path);
		return 1;
	}
	size_t len = (size_t)status.st_size;
	uint8_t *bytes = fuzz_alloc(len);
	if (fread(bytes, 1, len, file) != len) {
		perror(path);
		return 1;
	}
	fclose(file);
	run(bytes, len);
	if (every)
		run_variants(bytes, len);
	free(bytes);
	return 0;
}

static int by_name(const struct dirent **left, const struct dirent **right)
{
	return strcmp((*left)->d_name, (*right)->d_name);
}

static int run_path(const char *path)
{
	struct stat status;
	struct dirent **names;
	if (stat(path, &status) != 0) {
		perror(path);
		return 1;
	}
	if (!S_ISDIR(status.st_mode))
		return run_file(path);
	int count = scandir(path, &names, NULL, by_name), failed = count < 0;
	for (int i = 0; i < count; i++) {
		char inner[4096];
		if (names[i]->d_name[0] != '.') {
			snprintf(inner, sizeof(inner), "%s/%s", path, names[i]->d_name);
			failed |= run_path(inner);
		}
		free(names[i]);
	}
	if (count >= 0)
		free(names);
	return failed;
}

int main(int argc, char **argv)
{
	int failed = 0, from = 1;
	(void)LLVMFuzzerInitialize(&argc, &argv);
	signal(SIGABRT, say_which);
	if (argc > 1 && strcmp(argv[1], "--every") == 0) {
		every = 1;
		from = 2;
	}
	for (int i = from; i < argc; i++)
		failed |= run_path(argv[i]);
	printf("%lu inputs\n", runs);
	return failed || runs == 0;
}
