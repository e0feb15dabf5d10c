/* SPDX-License-Identifier: Apache-2.0 */
/* Communicators over any MPI-3: non-blocking collectives, kept going by a thread where MPI allows one. */
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "link.h"
#if defined(OPEN_MPI) && OPEN_MPI
#include <mpi-ext.h>
#endif

pthread_mutex_t sli_mpi_lock = PTHREAD_MUTEX_INITIALIZER;
/* Whether MPI was initialised here, and how many links then keep it from being finalised: MPI's own state, one a
 * process. Under the lock. */
static bool initialised_here;
static int users;

sl_status sli_mpi_failed(const mpi_link *link, int error, const char *what) {
	char text[MPI_MAX_ERROR_STRING] = "";
	int length = 0;
	MPI_Error_string(error, text, &length);
	return link->host.fail(link->host.user, SL_ERR_COMM, "%s on rank %d of %d: %s", what, link->rank, link->size, text);
}

static bool device_aware(void) {
#if defined(MPIX_CUDA_AWARE_SUPPORT)
	return MPIX_Query_cuda_support() == 1;
#else
	return false;
#endif
}

static void *keep_going(void *argument) {
	mpi_link *link = argument;
	pthread_mutex_lock(&sli_mpi_lock);
	while (!link->stop) {
		if (!link->pending) {
			/* Now and then whoever asks is answered: that this rank lives, and computes. */
			struct timespec until;
			clock_gettime(CLOCK_REALTIME, &until);
			until.tv_nsec += 50 * 1000 * 1000;
			if (until.tv_nsec >= 1000000000) {
				until.tv_nsec -= 1000000000;
				until.tv_sec++;
			}
			pthread_cond_timedwait(&link->work, &sli_mpi_lock, &until);
		}
		if (link->stop)
			break;
		sli_mpi_advance(link);
		bool busy = link->pending > 0;
		pthread_mutex_unlock(&sli_mpi_lock);
		if (busy)
			sli_mpi_pause(20);
		pthread_mutex_lock(&sli_mpi_lock);
	}
	pthread_mutex_unlock(&sli_mpi_lock);
	return NULL;
}

static void start_thread(mpi_link *link) {
	sigset_t all, before;
	sigfillset(&all); /* signals stay the program's own threads' affair */
	pthread_cond_init(&link->work, NULL);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	link->threaded = pthread_create(&link->thread, NULL, keep_going, link) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!link->threaded)
		pthread_cond_destroy(&link->work);
}

static sl_status begin_mpi(const sl_carrier_options *o, int *level) {
	int is = 0, was = 0;
	MPI_Finalized(&was);
	if (was)
		return o->fail(o->user, SL_ERR_STATE, "MPI was finalised in this process and cannot be initialised again");
	MPI_Initialized(&is);
	if (!is) {
		if (o->options.mpi_comm)
			return o->fail(o->user, SL_ERR_STATE, "mpi_comm was given, but MPI is not initialised");
		if (MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, level) != MPI_SUCCESS)
			return o->fail(o->user, SL_ERR_COMM, "MPI_Init_thread failed");
		initialised_here = true;
		/* Errors of requests are the world's; they end as statuses. */
		MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
	}
	MPI_Query_thread(level);
	return SL_OK;
}

/* Under the lock: own duplicates of `from`, which is freed where it is ours. */
static sl_status take_comms(mpi_link *link, MPI_Comm from, bool ours) {
	int error = ours ? MPI_SUCCESS : MPI_Comm_dup(from, &link->comm);
	if (ours)
		link->comm = from;
	if (error != MPI_SUCCESS)
		return sli_mpi_failed(link, error, "MPI_Comm_dup failed");
	MPI_Comm_set_errhandler(link->comm, MPI_ERRORS_RETURN);
	if ((error = MPI_Comm_dup(link->comm, &link->control)) != MPI_SUCCESS)
		return sli_mpi_failed(link, error, "MPI_Comm_dup failed");
	MPI_Comm_set_errhandler(link->control, MPI_ERRORS_RETURN);
	MPI_Comm_rank(link->comm, &link->rank);
	MPI_Comm_size(link->comm, &link->size);
	for (int i = 0; i < HISTORY; i++)
		link->history[i].number = -1;
	users++;
	return SL_OK;
}

/* Under the lock. */
static sl_status open_link(const sl_carrier_options *o, mpi_link *link) {
	int level = MPI_THREAD_SINGLE;
	SL_TRY(begin_mpi(o, &level));
	MPI_Comm from = o->options.mpi_comm ? *(const MPI_Comm *)o->options.mpi_comm : MPI_COMM_WORLD;
	if (from == MPI_COMM_NULL)
		return o->fail(o->user, SL_ERR_ARGUMENT, "mpi_comm is MPI_COMM_NULL");
	link->timeout = o->options.timeout;
	link->host = *o;
	SL_TRY(take_comms(link, from, false));
	/* Other threads of the program may call MPI at any time: only then may one of ours. */
	link->may_thread = level == MPI_THREAD_MULTIPLE && !o->options.no_thread;
	return SL_OK;
}

static void describe(const mpi_link *link, sl_carrier_info *info) {
	char version[MPI_MAX_LIBRARY_VERSION_STRING] = "";
	int length = 0;
	MPI_Get_library_version(version, &length);
	version[strcspn(version, ",\n")] = 0;
	bool aware = device_aware();
	*info = (sl_carrier_info){
		.rank = link->rank, .size = link->size, .host_buffers = true, .device_buffers = !link->host.cuda || aware};
	snprintf(info->text, sizeof info->text, "%.90s%s%s", version, aware ? ", CUDA-aware" : "",
			 link->threaded ? "" : ", no thread");
}

/* The thread, once all else is there. */
static void complete(mpi_link *link, sl_carrier_info *info) {
	link->threaded = link->may_thread && link->size > 1;
	if (link->threaded)
		start_thread(link);
	describe(link, info);
}

static sl_status mpi_open(const sl_carrier_options *o, void **result, sl_carrier_info *info) {
	mpi_link *link = calloc(1, sizeof *link);
	if (!link)
		return o->fail(o->user, SL_ERR_MEMORY, "no memory for an MPI communicator");
	pthread_mutex_lock(&sli_mpi_lock);
	sl_status status = open_link(o, link);
	pthread_mutex_unlock(&sli_mpi_lock);
	if (status != SL_OK) {
		free(link);
		return status;
	}
	complete(link, info);
	*result = link;
	return SL_OK;
}

static sl_status mpi_split(void *opaque, const sl_carrier_options *o, int color, int key, void **result,
						   sl_carrier_info *info) {
	const mpi_link *from = opaque;
	MPI_Comm comm = MPI_COMM_NULL;
	mpi_link *link = calloc(1, sizeof *link);
	if (!link)
		return o->fail(o->user, SL_ERR_MEMORY, "no memory for an MPI communicator");
	link->host = *o;
	link->timeout = from->timeout;
	link->may_thread = from->may_thread;
	pthread_mutex_lock(&sli_mpi_lock);
	int error = MPI_Comm_split(from->comm, color, key, &comm);
	sl_status status =
		error == MPI_SUCCESS ? take_comms(link, comm, true) : sli_mpi_failed(link, error, "MPI_Comm_split failed");
	pthread_mutex_unlock(&sli_mpi_lock);
	if (status != SL_OK) {
		free(link);
		return status;
	}
	complete(link, info);
	*result = link;
	return SL_OK;
}

static void mpi_close(void *opaque, bool failed) {
	mpi_link *link = opaque;
	if (link->threaded) {
		pthread_mutex_lock(&sli_mpi_lock);
		link->stop = true;
		pthread_cond_signal(&link->work);
		pthread_mutex_unlock(&sli_mpi_lock);
		pthread_join(link->thread, NULL);
		pthread_cond_destroy(&link->work);
	}
	pthread_mutex_lock(&sli_mpi_lock);
	if (!failed) {
		MPI_Comm_free(&link->control);
		MPI_Comm_free(&link->comm);
		if (--users == 0 && initialised_here)
			MPI_Finalize();
	}
	pthread_mutex_unlock(&sli_mpi_lock);
	/* Requests of a broken link may still write into their tickets. */
	if (!failed || !link->pending)
		free(link);
}

static MPI_Datatype base_type(sl_dtype dtype) {
	switch (dtype) {
	case SL_F32:
		return MPI_FLOAT;
	case SL_F64:
		return MPI_DOUBLE;
	case SL_I32:
		return MPI_INT32_T;
	case SL_I64:
		return MPI_INT64_T;
	default:
		return MPI_UINT16_T; /* moved, not computed with */
	}
}

static size_t element_bytes(sl_dtype dtype) {
	return dtype == SL_F64 || dtype == SL_I64 ? 8 : dtype == SL_F32 || dtype == SL_I32 ? 4 : 2;
}

/* One type for more elements than an int counts. */
static int wide_type(MPI_Datatype base, int64_t count, MPI_Datatype *type) {
	enum { CHUNK = 1 << 30 };
	MPI_Datatype chunk = MPI_DATATYPE_NULL, parts[2] = {MPI_DATATYPE_NULL, MPI_DATATYPE_NULL};
	int lengths[2] = {1, 1}, size = 0, error;
	int64_t whole = count / CHUNK, rest = count % CHUNK;
	MPI_Type_size(base, &size);
	MPI_Aint places[2] = {0, (MPI_Aint)(whole * CHUNK * size)};
	error = MPI_Type_contiguous(CHUNK, base, &chunk);
	if (error == MPI_SUCCESS)
		error = MPI_Type_contiguous((int)whole, chunk, &parts[0]);
	if (error == MPI_SUCCESS)
		error = MPI_Type_contiguous((int)rest, base, &parts[1]);
	if (error == MPI_SUCCESS)
		error = MPI_Type_create_struct(2, lengths, places, parts, type);
	if (error == MPI_SUCCESS)
		error = MPI_Type_commit(type);
	if (chunk != MPI_DATATYPE_NULL)
		MPI_Type_free(&chunk);
	for (int i = 0; i < 2; i++)
		if (parts[i] != MPI_DATATYPE_NULL)
			MPI_Type_free(&parts[i]);
	return error;
}

/* Combining and broadcasting go in pieces, which may be taken one after the other. */
static int start_pieces(mpi_link *link, const sl_comm_call *call, ticket *t) {
	MPI_Op op = call->op == SL_COMM_SUM ? MPI_SUM : call->op == SL_COMM_MAX ? MPI_MAX : MPI_MIN;
	MPI_Datatype type = base_type(call->dtype);
	size_t size = element_bytes(call->dtype);
	int error = MPI_SUCCESS;
	for (int64_t at = 0; at < call->count && error == MPI_SUCCESS; at += INT_MAX) {
		int n = call->count - at < INT_MAX ? (int)(call->count - at) : INT_MAX;
		char *to = (char *)call->recv + (size_t)at * size;
		const void *from = call->send == call->recv ? MPI_IN_PLACE : (const char *)call->send + (size_t)at * size;
		MPI_Request *request = &t->requests[t->pieces];
		error = call->kind == SL_CALL_BROADCAST ? MPI_Ibcast(to, n, type, call->root, link->comm, request)
												: MPI_Iallreduce(from, to, n, type, op, link->comm, request);
		t->pieces += error == MPI_SUCCESS;
	}
	return error;
}

static int start_blocks(mpi_link *link, const sl_comm_call *call, ticket *t) {
	MPI_Op op = call->op == SL_COMM_SUM ? MPI_SUM : call->op == SL_COMM_MAX ? MPI_MAX : MPI_MIN;
	MPI_Datatype type = base_type(call->dtype);
	int n = call->count <= INT_MAX ? (int)call->count : 1, error;
	if (call->count > INT_MAX && (error = wide_type(type, call->count, &t->type)) != MPI_SUCCESS)
		return error;
	type = call->count > INT_MAX ? t->type : type;
	const char *own = (const char *)call->recv + (size_t)link->rank * (size_t)call->count * element_bytes(call->dtype);
	switch (call->kind) {
	case SL_CALL_ALL_GATHER:
		error = MPI_Iallgather(call->send == own ? MPI_IN_PLACE : call->send, n, type, call->recv, n, type, link->comm,
							   &t->requests[0]);
		break;
	case SL_CALL_ALL_TO_ALL:
		error = MPI_Ialltoall(call->send, n, type, call->recv, n, type, link->comm, &t->requests[0]);
		break;
	case SL_CALL_REDUCE_SCATTER:
		error = MPI_Ireduce_scatter_block(call->send, call->recv, n, type, op, link->comm, &t->requests[0]);
		break;
	default:
		error = MPI_Ibarrier(link->comm, &t->requests[0]);
	}
	t->pieces = error == MPI_SUCCESS;
	return error;
}

static sl_status mpi_start(void *opaque, const sl_comm_call *call, int64_t number, void **result) {
	mpi_link *link = opaque;
	const sl_carrier_options *host = &link->host;
	if (call->kind == SL_CALL_REDUCE_SCATTER && call->count > INT_MAX)
		return host->fail(host->user, SL_ERR_OVERFLOW, "MPI combines at most %d elements a rank in a reduce-scatter",
						  INT_MAX);
	if (call->count / INT_MAX >= PIECES)
		return host->fail(host->user, SL_ERR_OVERFLOW, "%lld elements are too many for one call",
						  (long long)call->count);
	pthread_mutex_lock(&sli_mpi_lock);
	ticket *t = link->tickets;
	while (t < link->tickets + TICKETS && t->used)
		t++;
	if (t == link->tickets + TICKETS) {
		pthread_mutex_unlock(&sli_mpi_lock);
		return host->fail(host->user, SL_ERR_STATE, "%d calls are on their way: wait for some", TICKETS);
	}
	*t = (ticket){
		.used = true,
		.type = MPI_DATATYPE_NULL,
		.what = {number, (int64_t)call->kind, call->count, (int64_t)call->dtype, (int64_t)call->op, call->root}};
	link->history[number % HISTORY] = t->what;
	link->started = number + 1;
	bool pieces = call->kind == SL_CALL_ALL_REDUCE || call->kind == SL_CALL_BROADCAST;
	int error = pieces ? start_pieces(link, call, t) : start_blocks(link, call, t);
	if (error == MPI_SUCCESS) {
		link->pending++;
		if (link->threaded)
			pthread_cond_signal(&link->work);
		sli_mpi_advance(link);
	}
	pthread_mutex_unlock(&sli_mpi_lock);
	*result = t;
	return error == MPI_SUCCESS ? SL_OK : sli_mpi_failed(link, error, "a call could not be started");
}

void sli_mpi_advance(mpi_link *link) {
	for (int i = 0; i < TICKETS && link->pending; i++) {
		ticket *t = &link->tickets[i];
		int done = 0;
		if (!t->used || t->done)
			continue;
		t->error = MPI_Testall(t->pieces, t->requests, &done, MPI_STATUSES_IGNORE);
		if (!done && t->error == MPI_SUCCESS)
			continue;
		t->done = true;
		link->pending--;
		if (t->type != MPI_DATATYPE_NULL)
			MPI_Type_free(&t->type);
	}
	sli_mpi_answer(link);
}

static sl_status mpi_finish(void *opaque, void *opaque_ticket) {
	mpi_link *link = opaque;
	ticket *t = opaque_ticket;
	double began = sli_mpi_now();
	pthread_mutex_lock(&sli_mpi_lock);
	for (int turn = 0;; turn++) {
		sli_mpi_advance(link);
		if (t->done || sli_mpi_now() - began > link->timeout)
			break;
		pthread_mutex_unlock(&sli_mpi_lock);
		/* Ranks may share cores: whoever waits lets the others run. */
		sli_mpi_pause(turn < 100 ? 0 : 50);
		pthread_mutex_lock(&sli_mpi_lock);
	}
	sl_status status = SL_OK;
	if (!t->done)
		status = sli_mpi_diagnose(link, t);
	else if (t->error != MPI_SUCCESS)
		status = sli_mpi_failed(link, t->error, "a call failed");
	if (t->done)
		t->used = false;
	pthread_mutex_unlock(&sli_mpi_lock);
	return status;
}

static void mpi_abort(void *opaque, int exit_status) {
	mpi_link *link = opaque;
	MPI_Abort(link->comm, exit_status);
	_Exit(exit_status);
}

static const sl_carrier carrier = {.abi = SL_CARRIER_ABI,
								   .name = "mpi",
								   .open = mpi_open,
								   .close = mpi_close,
								   .start = mpi_start,
								   .finish = mpi_finish,
								   .abort = mpi_abort,
								   .split = mpi_split};

__attribute__((visibility("default"))) const sl_carrier *sparselayer_carrier(uint32_t abi) {
	return abi == SL_CARRIER_ABI ? &carrier : NULL;
}
