/* SPDX-License-Identifier: Apache-2.0 */
/* One rank alone: everything it sends is for itself. */
#include <stdio.h>
#include <stdlib.h>

#include "comm/comm.h"

static sl_status self_open(const sl_carrier_options *options, void **link, sl_carrier_info *info) {
	*link = NULL;
	*info = (sl_carrier_info){
		.rank = 0, .size = 1, .host_buffers = true, .device_buffers = !options->cuda, .sixteen_bits = true};
	snprintf(info->text, sizeof info->text, "one process");
	return SL_OK;
}

static void self_close(void *link, bool failed) {
	(void)link, (void)failed;
}

static sl_status self_start(void *link, const sl_comm_call *call, int64_t number, void **ticket) {
	(void)link, (void)number;
	*ticket = NULL;
	if (call->send && call->send != call->recv)
		memmove(call->recv, call->send, (size_t)call->count * sl_dtype_size(call->dtype));
	return SL_OK;
}

static sl_status self_finish(void *link, void *ticket) {
	(void)link, (void)ticket;
	return SL_OK;
}

static void self_abort(void *link, int exit_status) {
	(void)link;
	exit(exit_status);
}

static sl_status self_split(void *link, const sl_carrier_options *options, int color, int key, void **part,
							sl_carrier_info *info) {
	(void)link, (void)color, (void)key;
	return self_open(options, part, info);
}

const sl_carrier sli_carrier_self = {.abi = SL_CARRIER_ABI,
									 .name = "self",
									 .open = self_open,
									 .close = self_close,
									 .start = self_start,
									 .finish = self_finish,
									 .abort = self_abort,
									 .split = self_split};
