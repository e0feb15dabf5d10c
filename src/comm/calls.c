/* SPDX-License-Identifier: Apache-2.0 */
/* Calls: staging where the carrier does not reach, requests, failures that stay, and what ranks agree on. */
#include "comm/comm.h"

#include <stdio.h>

#include "core/checked.h"

/* Elements that a rank gives and receives. */
static bool elements(const sl_comm *comm, const sl_comm_call *c, int64_t *send, int64_t *recv) {
	int64_t all;
	if (!sli_mul(c->count, comm->info.size, &all) || all > INT64_MAX / 8)
		return false;
	*send = c->kind == SL_CALL_REDUCE_SCATTER || c->kind == SL_CALL_ALL_TO_ALL ? all : c->count;
	*recv = c->kind == SL_CALL_ALL_GATHER || c->kind == SL_CALL_ALL_TO_ALL ? all : c->count;
	return true;
}

static int64_t least_traffic(const sl_comm *comm, const sl_comm_call *c) {
	int64_t size = (int64_t)sl_dtype_size(c->dtype), ranks = comm->info.size, n = c->count * size;
	switch (c->kind) {
	case SL_CALL_ALL_REDUCE:
		return (int64_t)(2.0 * (double)n * (double)(ranks - 1) / (double)ranks);
	case SL_CALL_BROADCAST:
		return ranks > 1 ? n : 0;
	case SL_CALL_BARRIER:
		return 0;
	default:
		return n * (ranks - 1);
	}
}

static sl_status copy(sl_comm *comm, void *to, sl_memory to_kind, const void *from, sl_memory from_kind, size_t bytes) {
	sl_device_state *d = comm->device;
	SL_TRY(d->backend->copy(d->device, to, to_kind, from, from_kind, bytes));
	return d->backend->synchronize(d->device);
}

/* Buffers where the carrier reaches: host memory for the device's, or the other way round. */
static sl_status stage(sl_context *context, sl_comm *comm, sl_comm_slot *slot, sl_comm_call *c) {
	int64_t send = 0, recv = 0;
	size_t size = sl_dtype_size(c->dtype), bytes;
	bool cuda = sl_context_device(context) == SL_DEVICE_CUDA;
	bool reached = !cuda || (c->on_host ? comm->info.host_buffers : comm->info.device_buffers);
	if (!elements(comm, c, &send, &recv) || !sli_bytes(send + recv, size, &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld elements of %d ranks do not fit in memory", (long long)c->count,
						comm->info.size);
	if (reached || c->kind == SL_CALL_BARRIER)
		return SL_OK;
	sl_memory theirs = c->on_host ? SL_MEMORY_HOST : SL_MEMORY_DEVICE;
	slot->staged_kind = c->on_host ? SL_MEMORY_DEVICE : SL_MEMORY_PINNED;
	slot->staged_bytes = bytes;
	sl_device_state *d = comm->device;
	sl_status status = d->backend->allocate(d->device, bytes, slot->staged_kind, &slot->staged);
	if (status != SL_OK)
		return sli_fail_memory(context, bytes, "a buffer between device and host");
	char *to = slot->staged;
	slot->recv = c->recv;
	slot->result = to + (size_t)send * size;
	slot->result_bytes = (size_t)recv * size;
	status = c->send ? copy(comm, to, slot->staged_kind, c->send, theirs, (size_t)send * size)
					 : copy(comm, to + (size_t)send * size, slot->staged_kind, c->recv, theirs, slot->result_bytes);
	c->send = c->send ? to : NULL;
	c->recv = to + (size_t)send * size;
	c->on_host = !c->on_host;
	c->host_waits = true;
	return status;
}

static void unstage(sl_comm *comm, sl_comm_slot *slot) {
	if (slot->staged)
		comm->device->backend->release(comm->device->device, slot->staged, slot->staged_bytes, slot->staged_kind);
	*slot = (sl_comm_slot){0};
}

void sli_comm_drop(sl_comm *comm) {
	for (int i = 0; i < SL_REQUESTS; i++)
		unstage(comm, &comm->slots[i]);
}

static sl_status fail_for_good(sl_context *context, sl_comm *comm, sl_status status) {
	/* Refused arguments harm nothing; a broken link is one for all that follows. */
	if (status == SL_ERR_COMM || status == SL_ERR_BACKEND || status == SL_ERR_DEVICE_LOST)
		comm->failed = status;
	return sli_fail(context, status, "%s", comm->message);
}

sl_status sli_comm_call(sl_context *context, sl_comm *comm, const sl_comm_call *given, sl_comm_request *request) {
	sl_comm_call call = *given;
	if (request)
		*request = 0;
	if (comm->failed != SL_OK)
		return sli_fail(context, comm->failed, "%s", comm->message);
	if (!call.count)
		return SL_OK;
	sl_comm_slot *slot = comm->slots;
	while (slot < comm->slots + SL_REQUESTS && slot->request)
		slot++;
	if (slot == comm->slots + SL_REQUESTS)
		return sli_fail(context, SL_ERR_STATE, "%d calls are on their way: wait for some", SL_REQUESTS);
	sl_status status = stage(context, comm, slot, &call);
	if (status == SL_OK && comm->info.unordered)
		status = comm->device->backend->synchronize(comm->device->device);
	if (status != SL_OK) { /* the message is the device's */
		unstage(comm, slot);
		return status;
	}
	status = comm->carrier->start(comm->link, &call, comm->calls, &slot->ticket);
	if (status != SL_OK) {
		unstage(comm, slot);
		return fail_for_good(context, comm, status);
	}
	comm->calls++;
	comm->bytes_sent += least_traffic(comm, &call);
	slot->request = ++comm->requests;
	sl_comm_request own = slot->request;
	if (!request)
		return sli_comm_wait(context, comm, &own);
	*request = own;
	return SL_OK;
}

sl_status sli_comm_wait(sl_context *context, sl_comm *comm, sl_comm_request *request) {
	sl_comm_slot *slot = comm->slots;
	if (!*request)
		return SL_OK;
	while (slot < comm->slots + SL_REQUESTS && slot->request != *request)
		slot++;
	if (slot == comm->slots + SL_REQUESTS)
		return sli_fail(context, SL_ERR_ARGUMENT, "request %lld is none of this communicator's", (long long)*request);
	if (comm->failed != SL_OK) /* its buffers may still be written: they are left alone */
		return sli_fail(context, comm->failed, "%s", comm->message);
	sl_status status = comm->carrier->finish(comm->link, slot->ticket);
	if (status != SL_OK)
		return fail_for_good(context, comm, status);
	*request = 0;
	if (slot->staged) {
		sl_memory theirs = slot->staged_kind == SL_MEMORY_DEVICE ? SL_MEMORY_HOST : SL_MEMORY_DEVICE;
		status = copy(comm, slot->recv, theirs, slot->result, slot->staged_kind, slot->result_bytes);
	}
	unstage(comm, slot);
	return status;
}

sl_status sli_comm_sum(sl_context *context, sl_comm *comm, void *data, int64_t count, sl_dtype dtype,
					   sl_comm_request *request) {
	sl_comm_call call = {SL_CALL_ALL_REDUCE, data, data, count, dtype, SL_COMM_SUM, 0, true, false};
	return sli_comm_call(context, comm, &call, request);
}

sl_status sli_comm_vote(sl_context *context, sl_comm *comm, bool *flag) {
	int32_t any = *flag;
	sl_comm_call call = {SL_CALL_ALL_REDUCE, &any, &any, 1, SL_I32, SL_COMM_MAX, 0, true, false};
	SL_TRY(sli_comm_call(context, comm, &call, NULL));
	*flag = any != 0;
	return SL_OK;
}

sl_status sli_comm_gather(sl_context *context, sl_comm *comm, const void *send, void *recv, int64_t count,
						  sl_dtype dtype) {
	sl_comm_call call = {SL_CALL_ALL_GATHER, send, recv, count, dtype, SL_COMM_SUM, 0, true, false};
	return sli_comm_call(context, comm, &call, NULL);
}

/* Of `count` values the one that most have; of equally many, that of the lowest rank. */
static int64_t of_most(const int64_t *values, int count) {
	int best = 0, votes = 0;
	for (int r = 0; r < count; r++) {
		int n = 0;
		for (int s = r; s < count; s++)
			n += values[s] == values[r];
		if (n > votes) {
			votes = n;
			best = r;
		}
	}
	return values[best];
}

sl_status sli_comm_agree(sl_context *context, sl_comm *comm, const char *what, uint64_t value) {
	int size = comm->info.size;
	int64_t mine = (int64_t)value;
	int64_t *all = comm->board;
	sl_status status = sli_comm_gather(context, comm, &mine, all, 1, SL_I64);
	int64_t right = status == SL_OK ? of_most(all, size) : 0;
	for (int r = 0; r < size && status == SL_OK; r++)
		if (all[r] != right)
			status = sli_fail(context, SL_ERR_DISAGREE, "rank %d of %d has other values than most ranks for %s", r,
							  size, what);
	return status;
}

sl_status sli_comm_settle(sl_context *context, sl_comm *comm, sl_status mine) {
	int size = comm->info.size;
	int64_t own = mine;
	char message[384];
	snprintf(message, sizeof message, "%s", mine == SL_OK ? "" : sl_context_message(context));
	if (mine == SL_ERR_COMM)
		return mine;
	int64_t *all = comm->board;
	sl_status status = sli_comm_gather(context, comm, &own, all, 1, SL_I64);
	for (int r = 0; r < size && status == SL_OK; r++) {
		const char *text = sl_status_text((sl_status)(all[r] > 0 && all[r] < 1000 ? all[r] : -1));
		if (all[r] == SL_OK || r == comm->info.rank)
			continue;
		if (!strcmp(text, sl_status_text((sl_status)-1)))
			status = sli_fail(context, SL_ERR_DISAGREE, "rank %d of %d is in another call than rank %d", r, size,
							  comm->info.rank);
		else
			status = sli_fail(context, (sl_status)all[r], "rank %d of %d failed: %s", r, size, text);
	}
	if (mine != SL_OK && status != SL_ERR_COMM)
		status = sli_fail(context, mine, "rank %d of %d: %s", comm->info.rank, size, message);
	return status;
}
