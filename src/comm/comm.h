/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a communicator. */
#ifndef SL_COMM_COMM_H
#define SL_COMM_COMM_H

#include "backend/comm.h"
#include "core/context.h"

enum { SL_REQUESTS = 128 };

/* A call on its way; its buffers may lie where the carrier does not reach, and are copied then. */
typedef struct sl_comm_slot {
	int64_t request; /* 0: free */
	void *ticket;
	void *staged; /* NULL: the caller's own buffers */
	size_t staged_bytes;
	sl_memory staged_kind;
	void *recv; /* where the result goes after staging */
	const void *result;
	size_t result_bytes;
} sl_comm_slot;

struct sl_comm {
	sl_heap *heap; /* owns this struct; retained */
	const sl_carrier *carrier;
	void *module, *link;
	sl_comm_kind kind;
	sl_carrier_info info;
	sl_device_state *device; /* retained: where device buffers are */
	sl_comm_slot slots[SL_REQUESTS];
	int64_t calls, requests, bytes_sent;
	int64_t *board;   /* one a rank, for what they tell one another */
	sl_status failed; /* SL_OK: nothing has */
	char message[384], text[192];
};

/* Options with defaults filled in; AUTO decided. */
sl_status sli_comm_open(sl_comm **comm, sl_context *context, const sl_comm_options *options);
sl_status sli_comm_split(sl_comm **part, sl_context *context, sl_comm *comm, int color, int key);
void sli_comm_close(sl_comm *comm);
extern const sl_carrier sli_carrier_self;

/* Checked by the caller; request NULL: wait. */
sl_status sli_comm_call(sl_context *context, sl_comm *comm, const sl_comm_call *call, sl_comm_request *request);
/* Give back what calls on their way were staged in; nothing writes there any more. */
void sli_comm_drop(sl_comm *comm);
sl_status sli_comm_wait(sl_context *context, sl_comm *comm, sl_comm_request *request);
sl_status sli_comm_agree(sl_context *context, sl_comm *comm, const char *what, uint64_t value);
/* The others fail as well: one status for all ranks after what each did alone. The message tells the rank. */
sl_status sli_comm_settle(sl_context *context, sl_comm *comm, sl_status mine);
/* Whether any rank's flag is set. */
sl_status sli_comm_vote(sl_context *context, sl_comm *comm, bool *flag);

/* Calls as they are used inside: sums and copies of host memory. */
sl_status sli_comm_sum(sl_context *context, sl_comm *comm, void *data, int64_t count, sl_dtype dtype,
					   sl_comm_request *request);
sl_status sli_comm_gather(sl_context *context, sl_comm *comm, const void *send, void *recv, int64_t count,
						  sl_dtype dtype);

/*
 * A sum by a fixed tree. `leaves` vectors are summed, the same whatever the number of ranks: node [lo, hi) is the sum
 * of [lo, mid) and [mid, hi), hi - mid being the part beyond the largest power of two below hi - lo. Rank r has leaves
 * sl_comm_share(leaves, r, size), and sums those of them that make up whole nodes by itself.
 */
typedef struct sl_tree {
	int64_t leaves;
	int rank, size;
	int64_t first, count; /* own leaves */
	int most_nodes;       /* that any rank is left with */
} sl_tree;
void sli_tree_init(sl_tree *tree, int64_t leaves, int rank, int size);
/* After leaf `first + at` was put on the stack: how many times the two topmost are to be added up. */
int sli_tree_merges(const sl_tree *tree, int64_t at);
/* Vectors the stack ever holds. */
int sli_tree_depth(const sl_tree *tree);
/* The nodes that rank r is left with: where they begin and end; returns how many. */
int sli_tree_nodes(const sl_tree *tree, int rank, int64_t (*nodes)[2], int capacity);

/* `count` elements of each own node (nodes[k] + offset) to their sum over all ranks, in nodes[0]. Begin sends each rank
 * its part; gather adds up, and sends the sums round; each returns before its sending is done. Every rank makes these
 * calls in one order. `memory` of sli_tree_bytes() belongs to the sum until its end. */
typedef struct sl_tree_sum {
	sl_comm_request request;
	void *memory;
	int64_t count, part; /* elements; of each rank */
	sl_dtype dtype;
	void *to;
} sl_tree_sum;
bool sli_tree_bytes(const sl_tree *tree, int64_t count, sl_dtype dtype, size_t *bytes); /* false: overflow */
sl_status sli_tree_begin(sl_context *context, sl_comm *comm, const sl_tree *tree, sl_tree_sum *sum, void *const *nodes,
						 int64_t offset, int64_t count, sl_dtype dtype, void *memory);
sl_status sli_tree_gather(sl_context *context, sl_comm *comm, const sl_tree *tree, sl_tree_sum *sum);
/* Instead of gather and end: the sum of this rank's part alone, `part` elements in the sum's memory. */
sl_status sli_tree_fold(sl_context *context, sl_comm *comm, const sl_tree *tree, sl_tree_sum *sum, void **part);
sl_status sli_tree_end(sl_context *context, sl_comm *comm, const sl_tree *tree, sl_tree_sum *sum);

/* to += from, element by element, on the context's threads. */
void sli_add_vectors(sl_context *context, void *to, const void *from, int64_t count, sl_dtype dtype);

#endif
