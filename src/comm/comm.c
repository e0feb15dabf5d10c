/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing communicators. */
#include "comm/comm.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/registry.h"

static sl_status carrier_fail(void *user, sl_status status, const char *format, ...) {
	sl_comm *comm = user;
	va_list list;
	va_start(list, format);
	vsnprintf(comm->message, sizeof comm->message, format, list);
	va_end(list);
	return status;
}

/* Variables that Open MPI, MPICH and what follows them, and PMIx set for the processes they start. */
static bool launched(void) {
	return getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMI_SIZE") || getenv("PMIX_RANK") || getenv("MPI_LOCALNRANKS");
}

static const sl_carrier *choose(sl_context *context, sl_comm_kind *kind, void **module, sl_status *status) {
	char why[256] = "";
	*status = SL_OK;
	if (*kind == SL_COMM_AUTO)
		*kind = launched() ? SL_COMM_MPI : SL_COMM_SELF;
	if (*kind == SL_COMM_SELF)
		return &sli_carrier_self;
	const sl_carrier *carrier = sli_carrier_load(*kind, module, why, sizeof why);
	if (!carrier)
		*status = sli_fail(context, SL_ERR_UNSUPPORTED, "%s is not available: %s", sl_comm_kind_name(*kind), why);
	return carrier;
}

/* The id that NCCL ranks meet by, from rank 0 of whoever carries it. */
static sl_status carry_id(sl_context *context, sl_comm *comm, sl_carrier_options *o, void *id) {
	sl_comm *by = o->options.bootstrap, *own = NULL;
	if (!by) {
		sl_comm_options any = {SL_COMM_DEFAULTS, .timeout = o->options.timeout};
		SL_TRY(sli_comm_open(&own, context, &any));
		by = own;
	}
	o->options.rank = sl_comm_rank(by);
	o->options.size = sl_comm_size(by);
	sl_status status = SL_OK;
	if (o->options.rank == 0 && (status = comm->carrier->unique_id(o, id)) != SL_OK)
		sli_fail(context, status, "%s", comm->message);
	status = sli_comm_settle(context, by, status);
	sl_comm_call call = {
		.kind = SL_CALL_BROADCAST, .recv = id, .count = SL_COMM_ID_BYTES / 8, .dtype = SL_I64, .on_host = true};
	if (status == SL_OK)
		status = sli_comm_call(context, by, &call, NULL);
	sli_comm_close(own);
	o->options.unique_id = id;
	return status;
}

static sl_carrier_options options_for(sl_context *context, sl_comm *comm, const sl_comm_options *options) {
	const sl_device_state *state = sli_device(context);
	return (sl_carrier_options){.abi = SL_CARRIER_ABI,
								.options = *options,
								.cuda = sl_context_device(context) == SL_DEVICE_CUDA,
								.stream = state->host.stream,
								.device_index = state->host.device_index,
								.fail = carrier_fail,
								.user = comm};
}

static sl_status open_link(sl_context *context, sl_comm *comm, const sl_comm_options *options) {
	int64_t id[SL_COMM_ID_BYTES / 8] = {0};
	sl_carrier_options o = options_for(context, comm, options);
	if (comm->kind == SL_COMM_NCCL && !options->unique_id && !options->nccl_comm)
		SL_TRY(carry_id(context, comm, &o, id));
	sl_status status = comm->carrier->open(&o, &comm->link, &comm->info);
	return status == SL_OK ? SL_OK : sli_fail(context, status, "%s", comm->message);
}

static sl_status split_link(sl_context *context, sl_comm *comm, const sl_comm *from, int color, int key) {
	sl_comm_options none = {SL_COMM_DEFAULTS};
	sl_carrier_options o = options_for(context, comm, &none);
	sl_status status = comm->carrier->split(from->link, &o, color, key, &comm->link, &comm->info);
	return status == SL_OK ? SL_OK : sli_fail(context, status, "%s", comm->message);
}

/* Without a link yet. */
static sl_status make(sl_comm **result, sl_context *context, const sl_carrier *carrier, sl_comm_kind kind,
					  void *module) {
	void *memory;
	sl_status status = sli_allocate_zeroed(context, sizeof(sl_comm), "a communicator", &memory);
	if (status != SL_OK) {
		sli_backend_unload(module);
		return status;
	}
	sl_comm *comm = memory;
	comm->heap = sli_heap_retain(sli_heap(context));
	comm->device = sli_device_retain(sli_device(context));
	comm->carrier = carrier;
	comm->module = module;
	comm->kind = kind;
	*result = comm;
	return SL_OK;
}

/* The link is open, or was refused: `status`. */
static sl_status meet(sl_comm **result, sl_context *context, sl_comm *comm, sl_status status) {
	void *memory;
	if (status != SL_OK) {
		comm->carrier = NULL; /* there is no link to close */
		sli_comm_close(comm);
		return status;
	}
	snprintf(comm->text, sizeof comm->text, "rank %d of %d, %s (%s)", comm->info.rank, comm->info.size,
			 comm->carrier->name, comm->info.text);
	status = sli_allocate(context, (size_t)comm->info.size * sizeof *comm->board, "what the ranks say", &memory);
	comm->board = status == SL_OK ? memory : NULL;
	if (status == SL_OK)
		status = sli_comm_agree(context, comm, "the version of this library", SL_VERSION);
	if (status != SL_OK) {
		if (!comm->board) /* the others go on and will miss this rank */
			comm->failed = status;
		sli_comm_close(comm);
		return status;
	}
	*result = comm;
	return SL_OK;
}

sl_status sli_comm_open(sl_comm **result, sl_context *context, const sl_comm_options *options) {
	void *module = NULL;
	sl_status status;
	sl_comm *comm = NULL;
	sl_comm_kind kind = options->kind;
	const sl_carrier *carrier = choose(context, &kind, &module, &status);
	if (!carrier)
		return status;
	SL_TRY(make(&comm, context, carrier, kind, module));
	return meet(result, context, comm, open_link(context, comm, options));
}

sl_status sli_comm_split(sl_comm **result, sl_context *context, sl_comm *from, int color, int key) {
	char why[256] = "";
	void *module = NULL;
	sl_comm *comm = NULL;
	/* A module is counted by whom it was loaded for. */
	sl_status status = from->failed;
	if (status != SL_OK)
		return sli_fail(context, status, "%s", from->message);
	if (from->module && !sli_carrier_load(from->kind, &module, why, sizeof why))
		status = sli_fail(context, SL_ERR_UNSUPPORTED, "%s is not available: %s", sl_comm_kind_name(from->kind), why);
	if (status == SL_OK)
		status = make(&comm, context, from->carrier, from->kind, module);
	status = sli_comm_settle(context, from, status);
	if (status != SL_OK) {
		if (comm) {
			comm->carrier = NULL;
			sli_comm_close(comm);
		}
		return status;
	}
	return meet(result, context, comm, split_link(context, comm, from, color, key));
}

void sli_comm_close(sl_comm *comm) {
	if (!comm)
		return;
	if (comm->carrier) {
		/* Everyone comes here, or nobody waits for anybody. */
		void *ticket;
		sl_comm_call barrier = {.kind = SL_CALL_BARRIER, .count = 1, .dtype = SL_I32, .on_host = true};
		if (comm->failed == SL_OK && comm->info.size > 1) {
			comm->failed = comm->carrier->start(comm->link, &barrier, comm->calls++, &ticket);
			if (comm->failed == SL_OK)
				comm->failed = comm->carrier->finish(comm->link, ticket);
		}
		comm->carrier->close(comm->link, comm->failed != SL_OK);
		if (comm->failed != SL_OK && comm->info.stops)
			sli_comm_drop(comm);
	}
	/* A module whose link has failed keeps its memory, and code. */
	if (comm->failed == SL_OK)
		sli_backend_unload(comm->module);
	sli_device_release(comm->device);
	sl_heap *heap = comm->heap;
	sli_heap_free(heap, comm->board, (size_t)comm->info.size * sizeof *comm->board);
	sli_heap_free(heap, comm, sizeof *comm);
	sli_heap_release(heap);
}
