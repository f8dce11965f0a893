/* What an op of checkpoint.h holds, for those who make it and those who take it back. */
#include "checkpoint.h"

#include <stdlib.h>

#include "checkpoint_log.h"
#include "format.h"

void checkpoint_set_error(struct checkpoint_op *op, const struct error *err)
{
	error_free(op->op.error);
	op->op.error = error_copy(err);
}

void checkpoint_op_clear(struct checkpoint_op *checkpoint)
{
	free(checkpoint->offsets);
	checkpoint->offsets = NULL;
	buf_free(&checkpoint->ids);
	buf_free(&checkpoint->list);
}

bool checkpoint_listed(const struct checkpoint_op *checkpoint, size_t *at, const uint8_t **ret_id, size_t *ret_id_len,
	uint64_t *ret_timestamp)
{
	if (*at >= checkpoint->ids.len)
		return false;
	const uint8_t *head = checkpoint->ids.data + *at;
	*ret_id_len = get_u32(head);
	*ret_timestamp = get_u64(head + 4);
	*ret_id = head + 12;
	*at += 12 + *ret_id_len;
	return true;
}
