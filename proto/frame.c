#include "frame.h"

enum frame_status frame_next(
	const uint8_t *data, size_t have, uint64_t limit_bytes, struct span *ret_payload, size_t *ret_total_bytes)
{
	if (have < FRAME_LENGTH_BYTES) {
		*ret_total_bytes = 0;
		return FRAME_MORE;
	}
	uint32_t announced =
		(uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 | (uint32_t)data[2] << 8 | (uint32_t)data[3];
	*ret_total_bytes = (size_t)announced + FRAME_LENGTH_BYTES;
	if (announced > limit_bytes)
		return FRAME_OVER;
	if (have - FRAME_LENGTH_BYTES < announced)
		return FRAME_MORE;
	*ret_payload = (struct span){data + FRAME_LENGTH_BYTES, announced};
	return FRAME_READY;
}

size_t frame_capacity(size_t have, size_t total_bytes)
{
	size_t want = have > SIZE_MAX / 2 ? SIZE_MAX : have * 2;
	if (total_bytes > have && want > total_bytes)
		want = total_bytes;
	return want < FRAME_BUFFER_MIN ? FRAME_BUFFER_MIN : want;
}
