/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of models whose layers are divided over ranks: rows of W in blocks, of which each rank has some. */
#ifndef SL_LAYERS_DIVIDED_H
#define SL_LAYERS_DIVIDED_H

#include "comm/comm.h"
#include "layers/model.h"

/* A layer of the whole network: one of the model's layers, the same on every rank, or some of them, this rank's blocks
 * of it. */
typedef struct sl_stage {
	int first, count; /* layers of the model */
	bool divided;
	int64_t in_features, out_features;
	sl_tree tree;       /* whose leaves are the blocks of all ranks */
	int64_t *rows;      /* of W before each block; leaves + 1 */
	int64_t most_rows;  /* that a rank has */
	int64_t first_leaf; /* blocks of the stages before, of all ranks */
} sl_stage;

struct sl_divided {
	sl_heap *heap;
	sl_comm *comm;
	sl_stage *stages;
	int count, capacity;
	/* The room: outputs of the own blocks by stage, kept for backward; and what moves. */
	sl_buffer *own;
	int own_count;
	sl_buffer part;   /* gradients of the outputs of this rank's rows */
	sl_buffer wire;   /* everybody's rows */
	sl_buffer sums;   /* what adding up by the tree needs */
	sl_buffer *nodes; /* gradients that wait to be added up */
	int node_count;
};

/* Rows of W before each block, `blocks` + 1 of them, the blocks having about as many nonzeros each. offsets NULL: as
 * many rows each. */
void sli_divide_rows(const void *offsets, sl_dtype dtype, int64_t rows, int64_t blocks, int64_t *starts);
/* The model's layers so far become stages, of all ranks alike. */
sl_status sli_divided_begin(sl_context *context, sl_model *model, sl_comm *comm);
/* The layers from `first` on are this rank's blocks; or, with `divided` false, one layer of all ranks alike. Collective
 * where `divided`. */
sl_status sli_divided_add(sl_context *context, sl_model *model, int first, bool divided);
void sli_divided_destroy(struct sl_divided *divided);
sl_status sli_divided_room(sl_context *context, sl_model *model, const sl_model_room *room);
sl_status sli_divided_run(sl_context *context, sl_model *model, int64_t batch, sl_mode mode);
sl_status sli_divided_back(sl_context *context, sl_model *model, sl_dense *dx, sl_write write);
/* The sum of one number a layer over all ranks' layers, in their order: the same bits on any number of ranks.
 * `numbers` are of the model's layers. */
sl_status sli_divided_sum(sl_context *context, const sl_model *model, const double *numbers, double *sum);

#endif
