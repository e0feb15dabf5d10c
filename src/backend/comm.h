/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seam of communicators: what a module that carries data between ranks implements. src/comm is above it and knows
 * no carrier by name; arguments come checked, counts above zero.
 */
#ifndef SL_BACKEND_COMM_H
#define SL_BACKEND_COMM_H

#include <sparselayer/comm.h>

#define SL_CARRIER_ABI 3u

typedef enum sl_comm_call_kind {
	SL_CALL_ALL_REDUCE = 0,
	SL_CALL_ALL_GATHER,
	SL_CALL_REDUCE_SCATTER,
	SL_CALL_ALL_TO_ALL,
	SL_CALL_BROADCAST, /* recv alone, in place */
	SL_CALL_BARRIER,
	SL_CALL_COUNT
} sl_comm_call_kind;

typedef struct sl_comm_call {
	sl_comm_call_kind kind;
	const void *send; /* `recv` itself, or the rank's place in it: in place */
	void *recv;
	int64_t count; /* elements a rank */
	sl_dtype dtype;
	sl_comm_op op;
	int root;
	bool on_host;    /* host memory, of a context whose device has memory of its own; else the device's */
	bool host_waits; /* finish() is to return when the result is there, not when what follows on a stream will wait */
} sl_comm_call;

/* What a carrier is opened with. */
typedef struct sl_carrier_options {
	uint32_t abi;
	sl_comm_options options;
	bool cuda;    /* the context runs on CUDA */
	void *stream; /* its stream; NULL: the default one */
	int device_index;
	/* Keep a message, in printf form, and return `status`. */
	sl_status (*fail)(void *user, sl_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));
	void *user;
} sl_carrier_options;

/* What a carrier says of itself. */
typedef struct sl_carrier_info {
	int rank, size;
	bool device_buffers, host_buffers; /* what start() takes; the rest is staged above */
	bool sixteen_bits;                 /* reduces bf16 and f16 */
	bool unordered;                    /* calls are not ordered by the context's stream: it must be idle first */
	bool stops;                        /* behind close() nothing of calls that failed writes any more */
	char text[128];
} sl_carrier_info;

typedef struct sl_carrier {
	uint32_t abi;
	const char *name;
	sl_status (*open)(const sl_carrier_options *options, void **link, sl_carrier_info *info);
	/* `failed`: the other ranks may be gone; nothing may wait for them. */
	void (*close)(void *link, bool failed);
	/* Begin a call. `number` counts the calls of this communicator. *ticket is given back by finish() or, with done,
	 * by test(). */
	sl_status (*start)(void *link, const sl_comm_call *call, int64_t number, void **ticket);
	/* Wait until done. After the timeout: SL_ERR_COMM with the rank named. */
	sl_status (*finish)(void *link, void *ticket);
	void (*abort)(void *link, int exit_status);
	sl_status (*unique_id)(const sl_carrier_options *options, void *id); /* NULL: needs none */
	/* Links of the ranks that give the same colour, in order of their keys, then of their ranks; collective. */
	sl_status (*split)(void *link, const sl_carrier_options *options, int color, int key, void **part,
					   sl_carrier_info *info);
} sl_carrier;

#define SL_CARRIER_SYMBOL "sparselayer_carrier"
typedef const sl_carrier *(*sl_carrier_fn)(uint32_t abi);

#endif
