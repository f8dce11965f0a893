#include <stdlib.h>

#include "batch.h"

int batch_add(struct batch *batch, const void *bytes, size_t len)
{
	if (batch->count == batch->cap) {
		size_t cap = batch->cap == 0 ? 256 : batch->cap * 2;
		ironwal_bytes *entries = realloc(batch->entries, cap * sizeof(*entries));
		if (entries == NULL)
			return -1;
		batch->entries = entries;
		batch->cap = cap;
	}
	if (buf_append(&batch->bytes, bytes, len) != 0)
		return -1;
	batch->entries[batch->count++].len = len;
	return 0;
}

const ironwal_bytes *batch_entries(struct batch *batch)
{
	const uint8_t *at = batch->bytes.data;
	for (size_t i = 0; i < batch->count; i++) {
		batch->entries[i].data = at;
		if (batch->entries[i].len > 0)
			at += batch->entries[i].len;
	}
	return batch->entries;
}

void batch_clear(struct batch *batch)
{
	batch->bytes.len = 0;
	batch->count = 0;
}

void batch_free(struct batch *batch)
{
	buf_free(&batch->bytes);
	free(batch->entries);
	*batch = (struct batch){0};
}
