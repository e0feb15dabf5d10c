/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file comm.h
 * Communicators: the ranks that work together, and what moves between them. By MPI or NCCL, each a module that is
 * loaded when it is wanted; the library itself needs neither. One rank is one process.
 *
 * A collective call is made by every rank, in the same order, with the same counts and dtypes. With a request it
 * returns at once and its buffers belong to it until sl_comm_wait(); without one it returns when it is done.
 */
#ifndef SPARSELAYER_COMM_H
#define SPARSELAYER_COMM_H

#include "context.h"

SL_BEGIN_DECLS

/** Opaque. Used by one thread at a time, like its context. */
typedef struct sl_comm sl_comm;

/** What carries the data. */
typedef enum sl_comm_kind {
	SL_COMM_AUTO = 0, /**< MPI where a launcher (mpirun, srun) started this process, else #SL_COMM_SELF */
	SL_COMM_SELF = 1, /**< this process alone: rank 0 of 1; needs no module */
	SL_COMM_MPI =
		2, /**< MPI-3. Host buffers; device buffers directly where MPI is CUDA-aware, else by way of the host */
	SL_COMM_NCCL = 3 /**< NCCL, for contexts on CUDA, on their stream. Host buffers go by way of the device */
} sl_comm_kind;

/** "auto", "self", "mpi", "nccl"; "unknown" otherwise. Static. */
SL_API const char *sl_comm_kind_name(sl_comm_kind kind);

/** Bytes of an id that NCCL ranks find one another by. */
#define SL_COMM_ID_BYTES 128

/** Options of sl_comm_create(). Zero means the default that is named. */
typedef struct sl_comm_options {
	size_t struct_size;   /**< sizeof(sl_comm_options) */
	sl_comm_kind kind;    /**< default #SL_COMM_AUTO */
	const void *mpi_comm; /**< the caller's own `MPI_Comm *`, whose ranks these are; duplicated. Default:
							 MPI_COMM_WORLD, and MPI is initialised where the caller has not done it */
	void *nccl_comm;      /**< the caller's own `ncclComm_t`; borrowed. Default: made from `unique_id` or `bootstrap` */
	const void *unique_id; /**< NCCL: #SL_COMM_ID_BYTES of sl_comm_unique_id(), the same on every rank */
	int rank;              /**< NCCL with `unique_id` or `nccl_comm` */
	int size;              /**< likewise */
	sl_comm *bootstrap;    /**< NCCL: a communicator of the same ranks that carries the id. Default: one of
							  #SL_COMM_AUTO, for as long as that takes */
	double timeout;        /**< seconds after which a rank that others wait for is given up; default 300 */
	bool no_thread;        /**< MPI: no thread that keeps transfers going while this one computes */
} sl_comm_options;
/** Begins an initializer of #sl_comm_options. */
#define SL_COMM_DEFAULTS .struct_size = sizeof(sl_comm_options)

/**
 * Join the other ranks; collective. MPI that was initialised here is finalised with the last communicator, and cannot
 * be initialised again: keep one, or initialise MPI yourself.
 * @return #SL_ERR_ARGUMENT, #SL_ERR_UNSUPPORTED (the module is missing; NCCL without a GPU), #SL_ERR_STATE (MPI was
 *         finalised), #SL_ERR_COMM, #SL_ERR_DISAGREE (ranks of other versions of this library; the rank is named)
 */
SL_API sl_status sl_comm_create(sl_comm **comm, sl_context *context, const sl_comm_options *options);
/**
 * Divide the ranks into groups, each with a communicator of its own; collective. For ranks in a grid, as of models that
 * are divided over some ranks and trained on parts of the data by others. `comm` stays as it is.
 * @param color at least 0; ranks that give the same are a group
 * @param key a group's ranks are numbered by it, from 0; where keys are equal, in their order in `comm`
 * @return #SL_ERR_ARGUMENT, #SL_ERR_UNSUPPORTED (NCCL before 2.18), #SL_ERR_COMM, #SL_ERR_MEMORY
 */
SL_API sl_status sl_comm_split(sl_comm **part, sl_context *context, sl_comm *comm, int color, int key);
/** Leave; collective, unless a call has failed. NULL is allowed. Requests must have been waited for. */
SL_API void sl_comm_destroy(sl_comm *comm);
/** A fresh id for NCCL, made by one rank and handed to the others by the caller: #SL_COMM_ID_BYTES bytes.
 * @return #SL_ERR_UNSUPPORTED (no module), #SL_ERR_BACKEND */
SL_API sl_status sl_comm_unique_id(sl_context *context, void *id);

/** This process's number, from 0. 0 for NULL. */
SL_API int sl_comm_rank(const sl_comm *comm);
/** How many ranks there are. 1 for NULL. */
SL_API int sl_comm_size(const sl_comm *comm);
/** What carries the data; never #SL_COMM_AUTO. */
SL_API sl_comm_kind sl_comm_get_kind(const sl_comm *comm);
/** A line for people: "rank 2 of 4, mpi (Open MPI 4.1.4)". Valid while the communicator lives. */
SL_API const char *sl_comm_describe(const sl_comm *comm);

/** How elements are combined. */
typedef enum sl_comm_op {
	SL_COMM_SUM = 0, /**< in an order that the carrier chooses: floating-point bits may depend on the number of ranks */
	SL_COMM_MAX = 1, /**< the largest */
	SL_COMM_MIN = 2  /**< the smallest */
} sl_comm_op;

/** Where a call's buffers are: all in one place. */
typedef enum sl_comm_memory {
	SL_COMM_ON_DEVICE = 0, /**< the context's device; on the CPU that is host memory */
	SL_COMM_ON_HOST = 1    /**< host memory */
} sl_comm_memory;

/** A call on its way; 0: none. */
typedef int64_t sl_comm_request;

/**
 * Combine `count` elements of every rank, on every rank.
 * @param send may be `recv`
 * @param dtype f32, f64, i32, i64; on NCCL bf16 and f16 too
 * @param request receives the call; NULL: wait for it
 * @return #SL_ERR_DTYPE, #SL_ERR_STATE (too many requests at once), #SL_ERR_COMM. So do the others
 */
SL_API sl_status sl_comm_all_reduce(sl_context *context, sl_comm *comm, const void *send, void *recv, int64_t count,
									sl_dtype dtype, sl_comm_op op, sl_comm_memory memory, sl_comm_request *request);
/** `count` elements of every rank, in order of ranks, to every rank: recv has count * size. `send` may be the rank's
 * own place in `recv`. */
SL_API sl_status sl_comm_all_gather(sl_context *context, sl_comm *comm, const void *send, void *recv, int64_t count,
									sl_dtype dtype, sl_comm_memory memory, sl_comm_request *request);
/** Combine count * size elements of every rank; rank r receives the r-th `count` of them. `recv` must not overlap
 * `send`. */
SL_API sl_status sl_comm_reduce_scatter(sl_context *context, sl_comm *comm, const void *send, void *recv, int64_t count,
										sl_dtype dtype, sl_comm_op op, sl_comm_memory memory, sl_comm_request *request);
/** `count` elements to each rank from each: the s-th block of what rank r sent is the r-th of what rank s receives. No
 * overlap. */
SL_API sl_status sl_comm_all_to_all(sl_context *context, sl_comm *comm, const void *send, void *recv, int64_t count,
									sl_dtype dtype, sl_comm_memory memory, sl_comm_request *request);
/** `count` elements of rank `root` to the others. @return also #SL_ERR_ARGUMENT (root) */
SL_API sl_status sl_comm_broadcast(sl_context *context, sl_comm *comm, void *buffer, int64_t count, sl_dtype dtype,
								   int root, sl_comm_memory memory, sl_comm_request *request);
/** Return when every rank has come here. */
SL_API sl_status sl_comm_barrier(sl_context *context, sl_comm *comm);

/**
 * Wait for a call and set `*request` to 0; 0 is waited for already. On CUDA what follows on the stream waits, not the
 * host.
 * @return #SL_ERR_COMM: a rank did not come within the timeout, or a link broke. The message names the rank where that
 *         is known. From then on every call fails so; sl_comm_abort() ends the job
 */
SL_API sl_status sl_comm_wait(sl_context *context, sl_comm *comm, sl_comm_request *request);

/**
 * Whether all ranks have the same value; collective. For what must not differ: shapes, patterns, options.
 * @param what named in the message
 * @return #SL_ERR_DISAGREE on every rank, naming the rank whose value is not that of most
 */
SL_API sl_status sl_comm_agree(sl_context *context, sl_comm *comm, const char *what, uint64_t value);

/** Elements [*first, *first + *count) of `total` are part `part` of `parts` nearly equal ones. */
SL_API void sl_comm_share(int64_t total, int part, int parts, int64_t *first, int64_t *count);

/** Bytes handed to the carrier so far by this rank, as the algorithm of least traffic would send them. */
SL_API int64_t sl_comm_bytes_sent(const sl_comm *comm);

/** End the whole job with an exit status, where the launcher can; for after a failure. Does not return; a job of one
 * process ends by exit(). */
SL_API void sl_comm_abort(sl_comm *comm, int exit_status);

SL_END_DECLS
#endif
