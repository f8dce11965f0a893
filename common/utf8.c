#include "utf8.h"

#include <stdint.h>
#include <string.h>

/* The length of the character that begins at bytes, 0 if none does. Table 3-7 of the Unicode standard: the first byte
 * narrows the range of the second, which is what shuts out overlong forms, surrogates and what is above U+10FFFF. */
static size_t char_len(const uint8_t *bytes, size_t len)
{
	uint8_t lead = bytes[0], low = 0x80, high = 0xbf;
	size_t need;
	if (lead < 0x80)
		return 1;
	if (lead >= 0xc2 && lead <= 0xdf) {
		need = 2;
	} else if (lead >= 0xe0 && lead <= 0xef) {
		need = 3;
		if (lead == 0xe0)
			low = 0xa0;
		else if (lead == 0xed)
			high = 0x9f;
	} else if (lead >= 0xf0 && lead <= 0xf4) {
		need = 4;
		if (lead == 0xf0)
			low = 0x90;
		else if (lead == 0xf4)
			high = 0x8f;
	} else {
		return 0;
	}
	if (len < need || bytes[1] < low || bytes[1] > high)
		return 0;
	for (size_t i = 2; i < need; i++)
		if ((bytes[i] & 0xc0) != 0x80)
			return 0;
	return need;
}

bool utf8_valid(const void *bytes, size_t len)
{
	const uint8_t *at = bytes;
	while (len > 0) {
		uint64_t word;
		if (len >= sizeof(word)) {
			memcpy(&word, at, sizeof(word));
			if ((word & UINT64_C(0x8080808080808080)) == 0) {
				at += sizeof(word);
				len -= sizeof(word);
				continue;
			}
		}
		size_t step = char_len(at, len);
		if (step == 0)
			return false;
		at += step;
		len -= step;
	}
	return true;
}

size_t utf8_cut(const void *bytes, size_t len, size_t max)
{
	const uint8_t *at = bytes;
	if (len <= max)
		return len;
	/* A cut tears a character apart only if one that begins up to three bytes before it reaches over it. */
	for (size_t back = 1; back <= 3 && back <= max; back++) {
		size_t start = max - back;
		if ((at[start] & 0xc0) == 0x80)
			continue;
		return char_len(at + start, len - start) > back ? start : max;
	}
	return max;
}
