/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file context.h
 * The context: device, threads, memory, random seed, callbacks and the last error. The library
 * has no other state. One context is used by one thread at a time; two contexts never meet.
 */
#ifndef SPARSELAYER_CONTEXT_H
#define SPARSELAYER_CONTEXT_H

#include "status.h"

SL_BEGIN_DECLS

/** Opaque: see the file's text. Made by sl_context_create(), freed by sl_context_destroy(). */
typedef struct sl_context sl_context;

/** Kinds of memory, as handed to an allocator. */
typedef enum sl_memory {
	SL_MEMORY_HOST = 1,   /**< ordinary memory */
	SL_MEMORY_PINNED = 2, /**< page-locked host memory */
	SL_MEMORY_DEVICE = 3  /**< memory of the context's device */
} sl_memory;

/**
 * Allocator hooks for host memory. `allocate` returns memory aligned to `alignment` (a power of
 * two, at most 4096) or NULL; `release` gets the same size back. Both are called from the thread
 * that uses the context, `release` also from any thread that drops the last reference to a shared
 * object. Leave both NULL for the C library's.
 */
typedef struct sl_allocator {
	void *user; /**< handed to both */
	/** `bytes` > 0 aligned to `alignment`, or NULL. `kind` is #SL_MEMORY_HOST. */
	void *(*allocate)(void *user, size_t bytes, size_t alignment, sl_memory kind);
	/** Free what allocate() gave; `bytes` as there. */
	void (*release)(void *user, void *pointer, size_t bytes, sl_memory kind);
} sl_allocator;

/**
 * Allocator hooks for memory of a GPU: #SL_MEMORY_DEVICE, and #SL_MEMORY_PINNED on the host. Both follow the order of
 * `stream`, the context's (a cudaStream_t): what is allocated is used on it alone, and what is released may still be in
 * use by work queued there before. A pool such as cudaMallocFromPoolAsync() and the caching allocators of frameworks
 * work so. Never called while the stream captures a graph. Leave both NULL for a pool of the context's own. Unread on
 * the CPU.
 */
typedef struct sl_device_allocator {
	void *user; /**< handed to both */
	/** `bytes` > 0 on the context's GPU, aligned to 256, or NULL. The GPU is current. */
	void *(*allocate)(void *user, size_t bytes, sl_memory kind, void *stream);
	/** Free what allocate() gave; may come from any thread that drops the last reference to an object. */
	void (*release)(void *user, void *pointer, size_t bytes, sl_memory kind, void *stream);
} sl_device_allocator;

/**
 * The caller's own parallel-for, used instead of a thread pool. `run` must call
 * `task(argument, i)` once for each i in [0, count), from any threads, and return when all have
 * returned. `threads` is how many run at once (a hint for splitting work). Results do not depend
 * on it.
 */
typedef struct sl_parallel_for {
	void *user;  /**< handed to run() */
	int threads; /**< tasks that run at once; 0 means 1 */
	/** Call task(argument, i) for each i in [0, count) and wait for all. */
	void (*run)(void *user, size_t count, void (*task)(void *argument, size_t index), void *argument);
} sl_parallel_for;

/** How much a line matters. */
typedef enum sl_log_level {
	SL_LOG_ERROR = 1,   /**< something failed */
	SL_LOG_WARNING = 2, /**< something was ignored or done another way */
	SL_LOG_INFO = 3,    /**< choices made, such as the device */
	SL_LOG_DEBUG = 4    /**< everything */
} sl_log_level;

/** Receives one line without a newline. The library never prints by itself. */
typedef void (*sl_log_callback)(void *user, sl_log_level level, const char *line);

/** What a long call has done so far. `total` is 0 where it is not known. */
typedef struct sl_progress {
	const char *what;      /**< "train", "evaluate"; in "stream", "save" and "convert" bytes are counted, not samples */
	int64_t done;          /**< samples, of `total` */
	int64_t total;         /**< samples of the epoch or pass */
	int64_t epoch;         /**< counted from 0; -1 outside training */
	int64_t epochs;        /**< 0 outside training */
	double loss;           /**< running mean; NaN where there is none */
	double accuracy;       /**< running, 0 to 1; NaN where there is none */
	double seconds;        /**< since the call (in training: the epoch) began */
	int64_t bytes_read;    /**< from streamed layers' stores since then */
	int64_t bytes_written; /**< to them */
	double seconds_left;   /**< estimated, of the call (in training: of all epochs); NaN where there is none */
} sl_progress;

/** Return false to cancel: the call ends with #SL_ERR_CANCELLED in a consistent state. */
typedef bool (*sl_progress_callback)(void *user, const sl_progress *progress);

/** How products with a sparse matrix are planned: see plan.h. */
typedef enum sl_plan_mode {
	SL_PLAN_AUTO = 0,    /**< the candidate predicted to be the fastest, dense ones included */
	SL_PLAN_MEASURE = 1, /**< the candidate that is, timed on scratch operands; as #SL_PLAN_AUTO in a deterministic
							context, and in calls that plan for themselves */
	SL_PLAN_SPARSE = 2,  /**< the same prediction, but nothing runs dense */
	SL_PLAN_DENSE = 3    /**< dense wherever that is possible */
} sl_plan_mode;

/** Everything is optional: zero means the default that is named. */
typedef struct sl_context_options {
	size_t struct_size; /**< sizeof(sl_context_options) */
	sl_device device;   /**< default #SL_DEVICE_AUTO */
	int device_index;   /**< which GPU; default 0 */
	int threads;        /**< threads of the pool, the caller's included; default all cores the process may use */
	uint64_t seed;      /**< of every random choice made through this context; default 0 */
	bool deterministic; /**< plan from built-in costs alone, so that plans, and with them bits, are the same on every
						   machine of the same instruction set */
	bool flush_to_zero; /**< treat subnormals as zero inside kernels (else they are kept, whatever the caller's mode);
						   the mode is restored on return */
	sl_allocator allocator;       /**< default: the C library's */
	sl_parallel_for parallel_for; /**< default: an own pool of `threads` */
	size_t memory_budget;   /**< most bytes held through this context, caller-owned memory excepted; 0: no limit */
	sl_log_callback log;    /**< default: none */
	sl_log_level log_level; /**< most detailed level to report; default #SL_LOG_INFO */
	void *log_user;         /**< handed to `log` */
	sl_progress_callback progress; /**< default: none */
	void *progress_user;           /**< handed to `progress` */
	void *stream; /**< a cudaStream_t to run on, which outlives the context and all made through it; default: an own
					 stream. Ignored on the CPU */
	char *error;  /**< receives the message if creation fails; may be NULL */
	size_t error_size;       /**< bytes at `error`, the terminating zero included */
	sl_plan_mode plan_mode;  /**< default #SL_PLAN_AUTO */
	const char *calibration; /**< file of measured costs, copied; default: what SPARSELAYER_CALIBRATION names, else one
								in the user's cache folder. "off": neither measure nor read any, as deterministic
								contexts. See sl_calibrate() */
	sl_device_allocator device_allocator; /**< default: a stream-ordered pool of the context's own; plain allocation
											 where the driver has no pools */
	size_t pool_keep;                     /**< bytes that the pool keeps when they are not in use; default: all, until
											 sl_context_trim() */
	bool tf32; /**< on a GPU let products of f32 round their operands to TF32's 10 bits of fraction, where that is
				  faster; default: they keep f32's 23. Ignored on the CPU */
} sl_context_options;

/** Begins an initializer of #sl_context_options. */
#define SL_CONTEXT_DEFAULTS .struct_size = sizeof(sl_context_options)

/**
 * Create a context. `options` may be NULL: all defaults.
 * @return #SL_ERR_NULL, #SL_ERR_ARGUMENT (an option out of range, or only one allocator hook),
 *         #SL_ERR_DEVICE (#SL_DEVICE_CUDA without a usable module, driver or GPU), #SL_ERR_MEMORY,
 *         #SL_ERR_BUDGET. On failure `*context` is NULL and `options->error` says why.
 */
SL_API sl_status sl_context_create(sl_context **context, const sl_context_options *options);
/** Destroy a context. NULL is allowed. Objects made through it stay usable with other contexts. */
SL_API void sl_context_destroy(sl_context *context);

/** The sentence that belongs to the last failed call; "" if none failed. Valid until the next call. */
SL_API const char *sl_context_message(const sl_context *context);
/** The device the context runs on (never #SL_DEVICE_AUTO). */
SL_API sl_device sl_context_device(const sl_context *context);
/** Threads that kernels run on. */
SL_API int sl_context_threads(const sl_context *context);

/** A line that says what the context runs on: "cpu (avx2, 2 threads, AMD EPYC)". Valid while the context lives. */
SL_API const char *sl_context_describe(const sl_context *context);

/** Bytes held through a context and objects made through it. */
typedef struct sl_memory_usage {
	size_t struct_size;  /**< sizeof(sl_memory_usage); set it before the call */
	size_t current;      /**< host and device bytes held now */
	size_t peak;         /**< the most there ever were */
	size_t budget;       /**< 0: no limit */
	int64_t allocations; /**< allocations so far: a hot path must not move it */
} sl_memory_usage;
/** Fill in `usage`. What the C libraries underneath allocate by themselves (jansson, libzip, zlib, oneDNN, the thread
 * pool) is not in it. */
SL_API sl_status sl_context_memory(const sl_context *context, sl_memory_usage *usage);

/** Replace the log callback; NULL: none. `level` is the most detailed one to report; 0: #SL_LOG_INFO. */
SL_API sl_status sl_context_set_log(sl_context *context, sl_log_callback log, sl_log_level level, void *user);
/** Replace the progress callback; NULL: none. */
SL_API sl_status sl_context_set_progress(sl_context *context, sl_progress_callback progress, void *user);

/** Change how plans are made from now on; plans that exist stay. @return #SL_ERR_ARGUMENT */
SL_API sl_status sl_context_set_plan_mode(sl_context *context, sl_plan_mode mode);

/**
 * Give back memory that is kept for later: workspace, and what the GPU's pool holds unused. The next calls allocate
 * again. Waits for the device. @return #SL_ERR_STATE (the stream captures a graph)
 */
SL_API sl_status sl_context_trim(sl_context *context);

/** Wait until everything asked of the context's device is done. On the CPU: returns at once. */
SL_API sl_status sl_context_synchronize(sl_context *context);

/** One device that could be used, or the reason why it cannot. */
typedef struct sl_device_info {
	size_t struct_size; /**< sizeof(sl_device_info); set it before the call */
	sl_device device;   /**< #SL_DEVICE_CPU or #SL_DEVICE_CUDA */
	int index;          /**< sl_context_options.device_index */
	bool usable;        /**< whether a context could be made on it */
	char name[96];      /**< "AMD EPYC 7763", "NVIDIA H100" */
	char detail[192];   /**< instruction sets or compute capability; where unusable, why */
	uint64_t memory;    /**< bytes; 0 where unknown */
	int units;          /**< cores or multiprocessors */
} sl_device_info;
/**
 * List the devices: the CPU first, then each GPU, or one line that says why there is none.
 * @param devices array of `*count` elements, each with its struct_size set; may be NULL when `*count` is 0
 * @param count in: capacity; out: how many there are, which may be more than were filled in
 */
SL_API sl_status sl_devices(sl_device_info *devices, int *count);

SL_END_DECLS
#endif
