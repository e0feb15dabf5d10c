/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of data-parallel training. */
#ifndef SL_TRAIN_PARALLEL_H
#define SL_TRAIN_PARALLEL_H

#include <sparselayer/parallel.h>

#include "comm/comm.h"
#include "train/optimizer.h"
#include "train/sparsity.h"

/* A range of the wire that is summed in one go. */
typedef struct sl_bucket {
	int64_t offset, count; /* elements */
	int64_t part;          /* of each rank: a sharded state's share is the rank's part */
	int64_t state;         /* where that begins in the state arrays */
	sl_comm_request request;
	sl_tree_sum sum;
	char *room;    /* what the sum needs */
	void *segment; /* a sharded state: the sum of this rank's part */
} sl_bucket;

/* A layer's input and dZ of one part of the batch, kept for growth by gradient. */
typedef struct sl_kept {
	const sl_layer *layer;
	int64_t part, batch;
	void *dz, *x; /* row-major [features, batch]; one block of memory */
	size_t bytes;
} sl_kept;

/* Rows of W that increase, where the values of each begin, and those. */
typedef struct sl_rows {
	int64_t count;
	int32_t *columns;
	int64_t *starts;
	void *values;
	size_t column_bytes, start_bytes, value_bytes; /* of memory that is there */
} sl_rows;

/* The gradient of a layer of sparse inputs, see rows.c. */
typedef struct sl_row_sums {
	sl_rows *leaves;       /* of each own part */
	sl_rows held, all;     /* that the sum is added to; whose rows any rank has, without values */
	int64_t elements;      /* of all */
	void **nodes, *room;   /* values of `all` for each node on the stack of the tree; what their sum needs */
	int64_t most_elements; /* that these have room for */
	size_t node_bytes, room_bytes;
	int32_t *own[2], *lists[2]; /* the own parts' rows, and all ranks', as they are merged */
	size_t own_bytes[2], list_bytes[2];
	int64_t most_width; /* of a rank's list, that there is room for */
} sl_row_sums;

struct sl_parallel {
	sl_heap *heap; /* owns this struct and the arrays; retained */
	sl_comm *comm;
	sl_model *model;
	int model_layers; /* when this was made */
	sl_optimizer *optimizer;
	sl_parallel_options options; /* defaults filled in */
	bool fixed;                  /* sums by the tree */
	sl_tree tree;                /* where they are not: one part a rank */
	int64_t parts;               /* of the samples, and so of a batch: a leaf of the tree has consecutive ones */
	sl_dtype dtype;
	/* The wire: gradients of all parameters in one array, the last layer's first, as backward brings them. One for each
	 * node that is on the stack of the tree. */
	int64_t elements;
	int64_t *starts; /* of each layer's */
	void **nodes;
	int depth, height; /* of them, and how many are in use */
	size_t node_bytes;
	sl_bucket *buckets;
	int bucket_count, sent;
	char *rooms;
	size_t room_bytes;
	void *held; /* gradients that those of a batch are added to, while its parts use the layers' own arrays */
	size_t held_bytes;
	double *board; /* what ranks tell one another in a step */
	size_t board_bytes;
	/* Sharded state: this rank's parts of all buckets, one array a moment. */
	char *state[SL_MAX_STATES];
	size_t state_bytes;
	sl_row_sums *rows; /* NULL: the first layer takes dense inputs */
	/* Growth by gradient. */
	sl_kept *kept;
	int kept_count, kept_capacity;
	/* Of the batch that is under way. */
	int64_t part, total; /* which of the own ones; rows of the global batch */
	double factor;
	bool last; /* of the own parts: buckets are sent as they fill */
	double began, ended, waited;
};

/* The rows of a batch of `total` that a leaf of the tree has. */
void sli_parallel_rows(const sl_parallel *p, int64_t leaf, int64_t total, int64_t *first, int64_t *count);
/* The parts that it has. */
void sli_parallel_parts(const sl_parallel *p, int64_t leaf, int64_t *first, int64_t *count);
/* The most rows that a leaf has of a batch. */
int64_t sli_parallel_most_rows(const sl_parallel *p, int64_t total);

/* Forward and loss of rows [first, first + count) of the global batch; its gradient is left for backward. */
typedef sl_status (*sl_part_runner)(void *self, int64_t first, int64_t count, sl_loss_sums *sums);

sl_status sli_parallel_resolve(sl_context *context, const sl_comm *comm, sl_parallel_options *options);
sl_status sli_parallel_open(sl_parallel **parallel, sl_context *context, sl_comm *comm, sl_model *model,
							sl_optimizer *optimizer, const sl_parallel_options *options);
/* Room for the model as it is now; cheap where nothing has changed. */
sl_status sli_parallel_layout(sl_context *context, sl_parallel *p);
sl_status sli_parallel_verify(sl_context *context, sl_parallel *p, bool values);
/* A global batch of `total` rows. *stop: in, whether this rank wants to end; out, whether any does. Fails on every rank
 * where one has failed before its last backward. */
sl_status sli_parallel_batch(sl_context *context, sl_parallel *p, int64_t total, sl_part_runner run, void *self,
							 sl_write write, sl_loss_sums *sums, bool *stop);
sl_status sli_parallel_step(sl_context *context, sl_parallel *p, sl_sparsity_edit *edit);
/* What a divided model's ranks must have alike. */
sl_status sli_divided_verify(sl_context *context, const sl_model *model, const sl_optimizer *optimizer);

/* rows.c: the first layer's weights where it takes sparse inputs. Keep the gradient of the part that is under way; keep
 * that which the batch's is added to; sum up. */
sl_status sli_rows_open(sl_context *context, sl_parallel *p);
void sli_rows_close(sl_parallel *p);
sl_status sli_rows_keep(sl_context *context, sl_parallel *p);
sl_status sli_rows_hold(sl_context *context, sl_parallel *p);
sl_status sli_rows_sum(sl_context *context, sl_parallel *p, sl_write write);

/* sum.c */
sl_status sli_parallel_pack(void *p, sl_context *context, int layer);
sl_status sli_parallel_hold(sl_context *context, sl_parallel *p);
sl_status sli_parallel_begin_sums(sl_context *context, sl_parallel *p, int64_t up_to);
sl_status sli_parallel_end_sums(sl_context *context, sl_parallel *p, sl_write write);

/* grow.c */
sl_status sli_parallel_keep(void *p, sl_context *context, const sl_layer *layer, const sl_dense *dz, const sl_dense *x);
sl_status sli_parallel_keep_sparse(void *p, sl_context *context, const sl_layer *layer, const sl_dense *dz,
								   const sl_sparse_batch *x);
sl_status sli_parallel_offer(sl_context *context, sl_parallel *p);
void sli_parallel_forget(sl_parallel *p);

/* shard.c: the optimizer's state by ranks. */
sl_status sli_shard_take(sl_context *context, sl_parallel *p);
sl_status sli_shard_step(sl_context *context, sl_parallel *p);
/* The whole state into the optimizer, and back. */
sl_status sli_shard_gather(sl_context *context, sl_parallel *p);
void sli_shard_drop(sl_parallel *p);

#endif
