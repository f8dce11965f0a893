#include "content.h"

#include <endian.h>
#include <string.h>

#include "crc32c.h"

#define MAGIC UINT32_C(0x31425749) /* "IWB1" */

/* As it is in an entry. */
struct header {
	uint32_t magic, len;
	uint64_t seed, serial;
	uint32_t name, crc;
};
_Static_assert(sizeof(struct header) == CONTENT_HEADER_BYTES, "the header has no gaps");

static uint32_t checksum(const struct header *header, const uint8_t *entry, size_t len)
{
	uint32_t crc = crc32c(0, header, offsetof(struct header, crc));
	return crc32c(crc, entry + CONTENT_HEADER_BYTES, len - CONTENT_HEADER_BYTES);
}

void content_seal(uint8_t *entry, size_t len, const struct content *content)
{
	struct header header = {
		.magic = htole32(MAGIC),
		.len = htole32((uint32_t)len),
		.seed = htole64(content->seed),
		.serial = htole64(content->serial),
		.name = htole32(content->name),
	};
	header.crc = htole32(checksum(&header, entry, len));
	memcpy(entry, &header, sizeof(header));
}

enum content_verdict content_check(struct span entry, uint64_t seed, struct content *ret_content)
{
	struct header header;
	if (entry.data == NULL || entry.len < sizeof(header))
		return CONTENT_FOREIGN;
	memcpy(&header, entry.data, sizeof(header));
	bool right_magic = le32toh(header.magic) == MAGIC;
	header.magic = htole32(MAGIC);
	bool right_crc = le32toh(header.crc) == checksum(&header, entry.data, entry.len);
	if (!right_magic)
		return right_crc ? CONTENT_DAMAGED : CONTENT_FOREIGN;
	if (!right_crc || le32toh(header.len) != entry.len)
		return CONTENT_DAMAGED;
	*ret_content = (struct content){le64toh(header.seed), le64toh(header.serial), le32toh(header.name)};
	return ret_content->seed == seed ? CONTENT_GOOD : CONTENT_OTHER_RUN;
}

const char *content_verdict_text(enum content_verdict verdict)
{
	switch (verdict) {
	case CONTENT_GOOD:
		return "is whole";
	case CONTENT_FOREIGN:
		return "was not written by a run with --verify";
	case CONTENT_DAMAGED:
		return "is not what was written: its checksum is wrong";
	case CONTENT_OTHER_RUN:
		return "was written by another run";
	}
	return "?";
}
