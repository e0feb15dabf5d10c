/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/registry.h"
#include "comm/comm.h"
#include "ops/ops.h"

const char *sl_comm_kind_name(sl_comm_kind kind) {
	static const char *const names[] = {"auto", "self", "mpi", "nccl"};
	return kind >= SL_COMM_AUTO && kind <= SL_COMM_NCCL ? names[kind] : "unknown";
}

sl_status sl_comm_create(sl_comm **comm, sl_context *context, const sl_comm_options *options) {
	sl_comm_options o = {SL_COMM_DEFAULTS};
	if (comm)
		*comm = NULL;
	if (!context || !comm)
		return context ? sli_fail(context, SL_ERR_NULL, "comm is null") : SL_ERR_NULL;
	if (options)
		SL_TRY(sli_take_struct(context, &o, sizeof o, options, "options"));
	if (o.kind < SL_COMM_AUTO || o.kind > SL_COMM_NCCL)
		return sli_fail(context, SL_ERR_ARGUMENT, "kind %d is unknown", (int)o.kind);
	if (!(o.timeout >= 0) || isinf(o.timeout))
		return sli_fail(context, SL_ERR_ARGUMENT, "timeout is %g; it must be positive, or 0 for the default",
						o.timeout);
	if (o.mpi_comm && o.kind == SL_COMM_AUTO)
		o.kind = SL_COMM_MPI;
	if (o.mpi_comm && o.kind != SL_COMM_MPI)
		return sli_fail(context, SL_ERR_ARGUMENT, "mpi_comm is given, but the kind is %s", sl_comm_kind_name(o.kind));
	if ((o.nccl_comm || o.unique_id || o.bootstrap) && o.kind != SL_COMM_NCCL)
		return sli_fail(context, SL_ERR_ARGUMENT, "%s is given, but the kind is %s",
						o.nccl_comm   ? "nccl_comm"
						: o.unique_id ? "unique_id"
									  : "bootstrap",
						sl_comm_kind_name(o.kind));
	if ((o.nccl_comm || o.unique_id) && (o.size < 1 || o.rank < 0 || o.rank >= o.size))
		return sli_fail(context, SL_ERR_ARGUMENT, "rank %d of %d is none: both are needed with %s", o.rank, o.size,
						o.nccl_comm ? "nccl_comm" : "unique_id");
	if (o.kind == SL_COMM_NCCL && sl_context_device(context) != SL_DEVICE_CUDA)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "nccl joins GPUs, and this context runs on the %s",
						sl_device_name(sl_context_device(context)));
	o.timeout = o.timeout > 0 ? o.timeout : 300;
	return sli_comm_open(comm, context, &o);
}

sl_status sl_comm_split(sl_comm **part, sl_context *context, sl_comm *comm, int color, int key) {
	if (part)
		*part = NULL;
	if (!context)
		return SL_ERR_NULL;
	if (!part || !comm)
		return sli_fail(context, SL_ERR_NULL, "%s is null", part ? "comm" : "part");
	if (color < 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "color is %d; it must not be negative", color);
	return sli_comm_split(part, context, comm, color, key);
}

void sl_comm_destroy(sl_comm *comm) {
	sli_comm_close(comm);
}

typedef struct told {
	char message[256];
} told;

static sl_status keep_message(void *user, sl_status status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static sl_status keep_message(void *user, sl_status status, const char *format, ...) {
	va_list list;
	va_start(list, format);
	vsnprintf(((told *)user)->message, sizeof(told), format, list);
	va_end(list);
	return status;
}

sl_status sl_comm_unique_id(sl_context *context, void *id) {
	char why[256] = "";
	void *module = NULL;
	told said = {""};
	if (!context || !id)
		return context ? sli_fail(context, SL_ERR_NULL, "id is null") : SL_ERR_NULL;
	const sl_carrier *carrier = sli_carrier_load(SL_COMM_NCCL, &module, why, sizeof why);
	if (!carrier)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "nccl is not available: %s", why);
	sl_carrier_options o = {.abi = SL_CARRIER_ABI, .fail = keep_message, .user = &said};
	sl_status status = carrier->unique_id(&o, id);
	sli_backend_unload(module);
	return status == SL_OK ? SL_OK : sli_fail(context, status, "%s", said.message);
}

int sl_comm_rank(const sl_comm *comm) {
	return comm ? comm->info.rank : 0;
}

int sl_comm_size(const sl_comm *comm) {
	return comm ? comm->info.size : 1;
}

sl_comm_kind sl_comm_get_kind(const sl_comm *comm) {
	return comm ? comm->kind : SL_COMM_SELF;
}

const char *sl_comm_describe(const sl_comm *comm) {
	return comm ? comm->text : "";
}

int64_t sl_comm_bytes_sent(const sl_comm *comm) {
	return comm ? comm->bytes_sent : 0;
}

void sl_comm_share(int64_t total, int part, int parts, int64_t *first, int64_t *count) {
	/* The first `total % parts` are larger by one. */
	int64_t each = total / parts, more = total % parts;
	*first = part * each + (part < more ? part : more);
	*count = each + (part < more);
}

static sl_status check(sl_context *context, const sl_comm *comm, const sl_comm_call *c, sl_comm_memory memory) {
	bool reduces = c->kind == SL_CALL_ALL_REDUCE || c->kind == SL_CALL_REDUCE_SCATTER;
	if (!context)
		return SL_ERR_NULL;
	if (!comm)
		return sli_fail(context, SL_ERR_NULL, "comm is null");
	if (c->count < 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "count is %lld; it must not be negative", (long long)c->count);
	if (c->count && (!c->recv || (!c->send && c->kind != SL_CALL_BROADCAST)))
		return sli_fail(context, SL_ERR_NULL, "%s is null", c->recv ? "send" : "the receiving buffer");
	if (!sl_dtype_size(c->dtype))
		return sli_fail(context, SL_ERR_DTYPE, "dtype %d is unknown", (int)c->dtype);
	if (reduces && (c->dtype == SL_BF16 || c->dtype == SL_F16) && !comm->info.sixteen_bits)
		return sli_fail(context, SL_ERR_DTYPE, "%s does not combine %s: convert to f32", comm->carrier->name,
						sl_dtype_name(c->dtype));
	if (c->op < SL_COMM_SUM || c->op > SL_COMM_MIN)
		return sli_fail(context, SL_ERR_ARGUMENT, "op %d is unknown", (int)c->op);
	if (c->root < 0 || c->root >= comm->info.size)
		return sli_fail(context, SL_ERR_ARGUMENT, "root is %d; there are %d ranks", c->root, comm->info.size);
	if (memory != SL_COMM_ON_DEVICE && memory != SL_COMM_ON_HOST)
		return sli_fail(context, SL_ERR_ARGUMENT, "memory %d is unknown", (int)memory);
	return SL_OK;
}

static sl_status call(sl_context *context, sl_comm *comm, sl_comm_call c, sl_comm_memory memory,
					  sl_comm_request *request) {
	SL_TRY(check(context, comm, &c, memory));
	c.on_host = memory == SL_COMM_ON_HOST;
	return sli_comm_call(context, comm, &c, request);
}

sl_status sl_comm_all_reduce(sl_context *context, sl_comm *comm, const void *send, void *recv, int64_t count,
							 sl_dtype dtype, sl_comm_op op, sl_comm_memory memory, sl_comm_request *request) {
	return call(context, comm, (sl_comm_call){SL_CALL_ALL_REDUCE, send, recv, count, dtype, op, 0, false, false},
				memory, request);
}

sl_status sl_comm_all_gather(sl_context *context, sl_comm *comm, const void *send, void *recv, int64_t count,
							 sl_dtype dtype, sl_comm_memory memory, sl_comm_request *request) {
	return call(context, comm,
				(sl_comm_call){SL_CALL_ALL_GATHER, send, recv, count, dtype, SL_COMM_SUM, 0, false, false}, memory,
				request);
}

sl_status sl_comm_reduce_scatter(sl_context *context, sl_comm *comm, const void *send, void *recv, int64_t count,
								 sl_dtype dtype, sl_comm_op op, sl_comm_memory memory, sl_comm_request *request) {
	return call(context, comm, (sl_comm_call){SL_CALL_REDUCE_SCATTER, send, recv, count, dtype, op, 0, false, false},
				memory, request);
}

sl_status sl_comm_all_to_all(sl_context *context, sl_comm *comm, const void *send, void *recv, int64_t count,
							 sl_dtype dtype, sl_comm_memory memory, sl_comm_request *request) {
	return call(context, comm,
				(sl_comm_call){SL_CALL_ALL_TO_ALL, send, recv, count, dtype, SL_COMM_SUM, 0, false, false}, memory,
				request);
}

sl_status sl_comm_broadcast(sl_context *context, sl_comm *comm, void *buffer, int64_t count, sl_dtype dtype, int root,
							sl_comm_memory memory, sl_comm_request *request) {
	return call(context, comm,
				(sl_comm_call){SL_CALL_BROADCAST, NULL, buffer, count, dtype, SL_COMM_SUM, root, false, false}, memory,
				request);
}

sl_status sl_comm_barrier(sl_context *context, sl_comm *comm) {
	int32_t nothing = 0;
	return call(context, comm,
				(sl_comm_call){SL_CALL_BARRIER, &nothing, &nothing, 1, SL_I32, SL_COMM_SUM, 0, false, false},
				SL_COMM_ON_HOST, NULL);
}

sl_status sl_comm_wait(sl_context *context, sl_comm *comm, sl_comm_request *request) {
	if (!context)
		return SL_ERR_NULL;
	if (!comm || !request)
		return sli_fail(context, SL_ERR_NULL, "%s is null", comm ? "request" : "comm");
	return sli_comm_wait(context, comm, request);
}

sl_status sl_comm_agree(sl_context *context, sl_comm *comm, const char *what, uint64_t value) {
	if (!context)
		return SL_ERR_NULL;
	if (!comm || !what)
		return sli_fail(context, SL_ERR_NULL, "%s is null", comm ? "what" : "comm");
	return sli_comm_agree(context, comm, what, value);
}

void sl_comm_abort(sl_comm *comm, int exit_status) {
	if (comm)
		comm->carrier->abort(comm->link, exit_status);
	exit(exit_status);
}
