/* common: buffers, checksum, UTF-8, log lines, what threads are about. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "activity.h"
#include "buf.h"
#include "clock.h"
#include "crc32c.h"
#include "log.h"
#include "utf8.h"

/* ---- buf ------------------------------------------------------------------------------------------------------ */

Test(buf, grows_and_keeps_its_bytes)
{
	struct buf buf = {0};
	for (unsigned i = 0; i < 10000; i++) {
		uint8_t byte = (uint8_t)(i * 7);
		cr_assert(buf_append(&buf, &byte, 1) == 0, "append");
	}
	cr_assert(buf.len == 10000 && buf.cap >= 10000, "length");
	cr_assert(buf.cap < 20000, "capacity %zu is more than what growth by half needs", buf.cap);
	for (unsigned i = 0; i < 10000; i++)
		cr_assert(buf.data[i] == (uint8_t)(i * 7), "byte %u", i);
	buf_consume(&buf, 9990);
	cr_assert(buf.len == 10 && buf.data[0] == (uint8_t)(9990 * 7), "the rest is at the front");
	buf_consume(&buf, 10);
	cr_assert(buf.len == 0, "empty");
	buf_free(&buf);
	cr_assert(buf.data == NULL && buf.cap == 0, "freed");
}

Test(buf, refuses_what_cannot_be)
{
	struct buf buf = {0};
	cr_assert(buf_append(&buf, "abc", 3) == 0, "append");
	cr_assert(buf_reserve(&buf, SIZE_MAX) == -1, "overflow of len + extra");
	cr_assert(buf_reserve(&buf, SIZE_MAX / 2 - 1) == -1, "no such memory");
	cr_assert(buf.len == 3 && memcmp(buf.data, "abc", 3) == 0, "unchanged after a failure");
	cr_assert(buf_append(&buf, NULL, 0) == 0, "nothing from nowhere");
	buf_free(&buf);
}

Test(buf, capacity_is_exact_but_never_below_the_length)
{
	struct buf buf = {0};
	cr_assert(buf_set_capacity(&buf, 100) == 0 && buf.cap == 100, "exact");
	cr_assert(buf_append(&buf, "0123456789", 10) == 0, "append");
	cr_assert(buf_set_capacity(&buf, 4) == 0 && buf.cap == 10, "not below len");
	buf.len = 0;
	cr_assert(buf_set_capacity(&buf, 0) == 0 && buf.data == NULL, "zero frees");
}

/* ---- crc32c --------------------------------------------------------------------------------------------------- */

Test(crc32c, known_values)
{
	/* The first is the check value of the polynomial, the rest are from RFC 3720, B.4. */
	uint8_t bytes[32];
	cr_assert(crc32c(0, "123456789", 9) == 0xE3069283, "check value");
	cr_assert(crc32c(0, "", 0) == 0, "nothing");
	memset(bytes, 0, sizeof(bytes));
	cr_assert(crc32c(0, bytes, 32) == 0x8A9136AA, "zeros");
	memset(bytes, 0xff, sizeof(bytes));
	cr_assert(crc32c(0, bytes, 32) == 0x62A8AB43, "ones");
	for (unsigned i = 0; i < 32; i++)
		bytes[i] = (uint8_t)i;
	cr_assert(crc32c(0, bytes, 32) == 0x46DD794E, "ascending");
}

static uint32_t crc_by_bits(const uint8_t *bytes, size_t len)
{
	uint32_t crc = ~UINT32_C(0);
	for (size_t i = 0; i < len; i++) {
		crc ^= bytes[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82F63B78 : 0);
	}
	return ~crc;
}

Test(crc32c, chains_at_every_cut_and_agrees_with_the_definition)
{
	uint8_t bytes[300];
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * i + 3);
	for (size_t len = 0; len <= sizeof(bytes); len++) {
		uint32_t whole = crc_by_bits(bytes, len);
		cr_assert(crc32c(0, bytes, len) == whole, "length %zu", len);
		cr_assert(crc32c(crc32c(0, bytes, len / 3), bytes + len / 3, len - len / 3) == whole, "cut, length %zu",
			len);
	}
}

/* ---- utf8 ----------------------------------------------------------------------------------------------------- */

#define VALID(text) utf8_valid(text, sizeof(text) - 1)

Test(utf8, accepts_and_refuses_by_the_letter)
{
	cr_assert(VALID(""), "empty");
	cr_assert(VALID("plain text that is longer than a word of eight"), "ascii");
	cr_assert(VALID("a\0b"), "NUL");
	cr_assert(VALID("\xc2\x80"), "U+0080");
	cr_assert(VALID("\xdf\xbf"), "U+07FF");
	cr_assert(VALID("\xe0\xa0\x80"), "U+0800");
	cr_assert(VALID("\xed\x9f\xbf"), "U+D7FF");
	cr_assert(VALID("\xee\x80\x80"), "U+E000");
	cr_assert(VALID("\xef\xbf\xbf"), "U+FFFF");
	cr_assert(VALID("\xf0\x90\x80\x80"), "U+10000");
	cr_assert(VALID("\xf4\x8f\xbf\xbf"), "U+10FFFF");
	cr_assert(VALID("12345678\xf0\x9f\x92\xa9"
			"abcdefgh"),
		"in the middle");

	cr_assert(!VALID("\x80"), "tail alone");
	cr_assert(!VALID("\xc0\x80"), "overlong NUL");
	cr_assert(!VALID("\xc1\xbf"), "overlong of two");
	cr_assert(!VALID("\xe0\x9f\xbf"), "overlong of three");
	cr_assert(!VALID("\xf0\x8f\xbf\xbf"), "overlong of four");
	cr_assert(!VALID("\xed\xa0\x80"), "surrogate");
	cr_assert(!VALID("\xed\xbf\xbf"), "last surrogate");
	cr_assert(!VALID("\xf4\x90\x80\x80"), "above U+10FFFF");
	cr_assert(!VALID("\xf5\x80\x80\x80"), "lead f5");
	cr_assert(!VALID("\xff"), "ff");
	cr_assert(!VALID("12345678\xe2\x82"), "cut short");
	cr_assert(!VALID("12345678\xe2(\xa1"), "tail missing");
}

/* Every code point, encoded by the definition, is valid unless it is a surrogate; and every cut of it is not. */
Test(utf8, every_code_point)
{
	for (uint32_t c = 0; c < 0x110000; c += c < 0x11000 ? 1 : 17) {
		uint8_t b[4];
		size_t len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
		if (len == 1)
			b[0] = (uint8_t)c;
		else
			b[0] = (uint8_t)((0xf00 >> len) | c >> (6 * (len - 1)));
		for (size_t i = 1; i < len; i++)
			b[i] = (uint8_t)(0x80 | (c >> (6 * (len - 1 - i)) & 0x3f));
		bool surrogate = c >= 0xd800 && c <= 0xdfff;
		cr_assert(utf8_valid(b, len) == !surrogate, "U+%04X", c);
		for (size_t cut = 1; cut < len; cut++)
			cr_assert(!utf8_valid(b, cut), "U+%04X cut to %zu", c, cut);
	}
}

Test(utf8, cut_never_tears_a_character)
{
	static const char text[] = "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x92\xa9z";
	size_t len = sizeof(text) - 1;
	size_t before = 0;
	for (size_t max = 0; max <= len + 2; max++) {
		size_t cut = utf8_cut(text, len, max);
		cr_assert(cut <= max && cut <= len, "within the limit at %zu", max);
		cr_assert(utf8_valid(text, cut), "a whole text at %zu", max);
		cr_assert(
			cut >= before && cut + 3 >= (max < len ? max : len), "no more is cut than needed at %zu", max);
		before = cut;
	}
	cr_assert(utf8_cut(text, len, len) == len, "what fits stays");
	cr_assert(utf8_cut("\x80\x80\x80\x80\x80", 5, 4) == 4, "what is not UTF-8 is cut anywhere");
	cr_assert(utf8_cut("\xff\xff\xff\xff\xff", 5, 4) == 4, "nor does a bad lead matter");
}

/* ---- log ------------------------------------------------------------------------------------------------------ */

static int pipe_fds[2];

static void log_to_pipe(void)
{
	cr_assert(pipe(pipe_fds) == 0, "pipe");
	log_set_fd(pipe_fds[1]);
}

static size_t read_log(char *text, size_t size)
{
	close(pipe_fds[1]);
	size_t len = 0;
	for (;;) {
		ssize_t got = read(pipe_fds[0], text + len, size - 1 - len);
		if (got <= 0)
			break;
		len += (size_t)got;
	}
	text[len] = '\0';
	close(pipe_fds[0]);
	return len;
}

Test(log, one_line_with_time_level_and_module)
{
	char text[4096];
	log_to_pipe();
	errno = ENOENT;
	log_warn("net", "listening on %s", "here");
	cr_assert(errno == ENOENT, "errno is kept");
	read_log(text, sizeof(text));
	cr_assert(strcmp(text + 24, " warn  net: listening on here\n") == 0, "%s", text);
	cr_assert(text[4] == '-' && text[10] == 'T' && text[19] == '.' && text[23] == 'Z', "%s", text);
}

Test(log, levels_filter_and_arguments_are_not_evaluated)
{
	char text[4096];
	int evaluated = 0;
	log_to_pipe();
	cr_assert(log_get_level() == LOG_LEVEL_INFO, "the default");
	log_debug("x", "%d", ++evaluated);
	cr_assert(evaluated == 0, "off");
	log_set_level(LOG_LEVEL_ERROR);
	log_warn("x", "%d", ++evaluated);
	log_error("x", "%d", ++evaluated);
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("x", "%d", ++evaluated);
	cr_assert(evaluated == 2, "on");
	read_log(text, sizeof(text));
	cr_assert(strstr(text, "error x: 1\n") != NULL && strstr(text, "debug x: 2\n") != NULL, "%s", text);
	cr_assert(strstr(text, "warn") == NULL, "%s", text);
	enum log_level level;
	cr_assert(log_level_from_name("warn", 4, &level) == 0 && level == LOG_LEVEL_WARN, "name");
	cr_assert(log_level_from_name("warning", 7, &level) == -1, "no such name");
	cr_assert(strcmp(log_level_name(LOG_LEVEL_DEBUG), "debug") == 0, "and back");
}

Test(log, what_could_forge_a_line_is_escaped)
{
	char text[16384];
	log_to_pipe();
	log_info("x", "%s", "a\nb\tc\r\x1b[31m\x7f \xc3\xa4 \xc2\x9b");
	log_info("x", "%s", "not UTF-8: \xff");
	char filler[5000];
	memset(filler, '\x01', sizeof(filler) - 1);
	filler[sizeof(filler) - 1] = '\0';
	log_info("x", "%s", filler);
	size_t len = read_log(text, sizeof(text));
	cr_assert(strstr(text, ": a\\nb\\tc\\r\\x1b[31m\\x7f \xc3\xa4 \\xc2\\x9b\n") != NULL, "%s", text);
	cr_assert(strstr(text, "not UTF-8: \\xff\n") != NULL, "%s", text);
	unsigned lines = 0;
	for (size_t i = 0; i < len; i++)
		lines += text[i] == '\n';
	cr_assert(lines == 3, "%u lines", lines);
	cr_assert(len > 8000 && text[len - 1] == '\n', "a long text is cut, and still one line (%zu)", len);
}

Test(log, json_has_the_same_and_nothing_can_leave_its_string)
{
	char text[32768];
	log_to_pipe();
	log_set_format(LOG_FORMAT_JSON);
	log_warn("net", "a \"b\" c:\\d\n\x01\x7f \xc3\xa4 \xc2\x9b");
	log_info("x", "%s", "not UTF-8: \xff\"");
	char filler[5000];
	memset(filler, '\x01', sizeof(filler) - 1);
	filler[sizeof(filler) - 1] = '\0';
	log_info("x", "%s", filler);
	size_t len = read_log(text, sizeof(text));
	cr_assert(strncmp(text, "{\"time\":\"20", 11) == 0 && text[32] == 'Z' && text[28] == '.', "%s", text);
	static const char first[] = "\",\"level\":\"warn\",\"module\":\"net\",\"message\":\"a \\\"b\\\" "
				    "c:\\\\d\\n\\u0001\\u007f \xc3\xa4 \\u009b\"}\n{";
	cr_assert(strncmp(text + 33, first, sizeof(first) - 1) == 0, "%s", text + 33);
	cr_assert(strstr(text, "\"message\":\"not UTF-8: \\\\xff\\\"\"}\n") != NULL, "%s", text);
	cr_assert(
		len > 12000 && strcmp(text + len - 3, "\"}\n") == 0, "a long text is cut, and still whole (%zu)", len);
}

static void say_stream(unsigned long long device, unsigned long long inode, const char *behind)
{
	char value[100];
	snprintf(value, sizeof(value), "%llu:%llu%s", device, inode, behind);
	setenv("JOURNAL_STREAM", value, 1);
}

Test(log, priorities_where_it_is_the_journals_stream)
{
	char text[4096];
	struct stat status;
	log_to_pipe();
	cr_assert(fstat(pipe_fds[1], &status) == 0, "fstat");
	unsetenv("JOURNAL_STREAM");
	cr_assert(!log_find_journal() && log_priority(LOG_LEVEL_ERROR)[0] == '\0', "nobody says so");
	say_stream(status.st_dev, status.st_ino + 1, "");
	cr_assert(!log_find_journal(), "standard error is another one");
	say_stream(status.st_dev + 1, status.st_ino, "");
	cr_assert(!log_find_journal(), "another device");
	say_stream(status.st_dev, status.st_ino, "x");
	cr_assert(!log_find_journal(), "rubbish behind it");
	say_stream(status.st_dev, status.st_ino, "");
	cr_assert(log_find_journal(), "it is");
	log_set_level(LOG_LEVEL_DEBUG);
	log_error("a", "1");
	log_warn("a", "2");
	log_info("a", "3");
	log_debug("a", "4\n<0>forged");
	log_set_format(LOG_FORMAT_JSON);
	log_warn("a", "5");
	read_log(text, sizeof(text));
	static const char lines[] = "<3>a: 1\n<4>a: 2\n<6>a: 3\n<7>a: 4\\n<0>forged\n<4>{\"time\":\"";
	cr_assert(strncmp(text, lines, sizeof(lines) - 1) == 0, "%s", text);
}

static void *log_many(void *arg)
{
	for (int i = 0; i < 50; i++)
		log_info("t", "%s", (const char *)arg);
	return NULL;
}

Test(log, lines_of_threads_never_mix)
{
	char text[65536];
	static char words[4][101];
	pthread_t threads[4];
	log_to_pipe();
	for (int i = 0; i < 4; i++) {
		memset(words[i], 'a' + i, 100);
		cr_assert(pthread_create(&threads[i], NULL, log_many, words[i]) == 0, "thread");
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	read_log(text, sizeof(text));
	unsigned lines = 0;
	for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"), lines++) {
		const char *word = strstr(line, "t: ");
		cr_assert(word != NULL && strlen(word + 3) == 100, "%s", line);
		cr_assert(strspn(word + 3, (char[]){word[3], '\0'}) == 100, "%s", line);
	}
	cr_assert(lines == 200, "%u lines", lines);
}

/* ---- activity ---------------------------------------------------------------------------------------------------- */

struct other {
	sem_t go, done;
	atomic_uint_least64_t work;
};

static void *tell(void *arg)
{
	struct other *other = arg;
	activity_step(); /* of nobody */
	activity_wait_begin("nothing");
	activity_join("a-name-that-is-longer-than-15", &other->work, true);
	sem_post(&other->done);
	sem_wait(&other->go);
	activity_step();
	activity_wait_begin("a sync");
	sem_post(&other->done);
	sem_wait(&other->go);
	activity_wait_end();
	sem_post(&other->done);
	sem_wait(&other->go);
	activity_leave();
	activity_leave();
	return NULL;
}

static void take_turn(struct other *other)
{
	sem_post(&other->go);
	sem_wait(&other->done);
}

Test(activity, a_thread_is_seen_while_it_takes_part)
{
	struct activity_sample samples[ACTIVITY_MAX];
	struct other other = {.work = 0};
	pthread_t thread;
	sem_init(&other.go, 0, 0);
	sem_init(&other.done, 0, 0);
	cr_assert(activity_look(samples) == 0, "nobody");
	activity_join("main", NULL, false);
	cr_assert(pthread_create(&thread, NULL, tell, &other) == 0);
	sem_wait(&other.done);
	cr_assert(activity_look(samples) == 2, "both");
	const struct activity_sample *at = strcmp(samples[0].name, "main") == 0 ? &samples[1] : &samples[0];
	cr_assert(strcmp(at->name, "a-name-that-is-") == 0, "%s", at->name);
	cr_assert(!at->has_work && at->answers && at->steps == 0 && at->waits_for == NULL, "as it joined");
	atomic_store(&other.work, 3);
	take_turn(&other);
	activity_look(samples);
	cr_assert(at->has_work && at->steps == 1 && strcmp(at->waits_for, "a sync") == 0, "it waits");
	take_turn(&other);
	activity_look(samples);
	cr_assert(at->steps == 2 && at->waits_for == NULL, "the end of a wait is a step");
	sem_post(&other.go);
	pthread_join(thread, NULL);
	cr_assert(
		activity_look(samples) == 1 && strcmp(samples[0].name, "main") == 0 && !samples[0].has_work, "it left");
	activity_leave();
	cr_assert(activity_look(samples) == 0, "nobody again");
}

Test(clock, goes_forward)
{
	uint64_t before = clock_now_ns();
	uint64_t after = clock_now_ns();
	cr_assert(before > 0 && after >= before, "monotonic");
}
