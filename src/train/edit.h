/* SPDX-License-Identifier: Apache-2.0 */
/* Edits of layers' patterns. All is built first, for as many layers as belong together; commits cannot fail. */
#ifndef SL_TRAIN_EDIT_H
#define SL_TRAIN_EDIT_H

#include "layers/model.h"
#include "sparse/edit.h"
#include "sparse/rank.h"
#include "train/optimizer.h"

typedef struct sl_layer_edit {
	sl_layer *layer;
	sl_optimizer_entry *entry; /* of the optimizer whose moments come along; may be NULL */
	sl_pattern_edit change;    /* `from` retained */
	sl_ranked ranked;          /* the weights; marks belong to the edit */
	sl_pattern *to;
	sl_edit_map map;
	int64_t nnz;
	double variance; /* second moment of new weights: the mean of the old. From 0, Adam's steps would be many times too
						large for as long as it remembers */
	sl_csr *weights; /* where the number of entries changes: new arrays; else the old are reused */
	sl_buffer gradient, state[SL_MAX_STATES];
} sl_layer_edit;

/* Begin with room for marks, from the arena, as is the map's: the caller resets it behind sli_edit_end(). A dense layer
 * counts as a full pattern. */
sl_status sli_edit_begin(sl_context *context, sl_layer_edit *edit, sl_layer *layer, sl_optimizer *optimizer);
/* Build what `change` says. */
sl_status sli_edit_build(sl_context *context, sl_layer_edit *edit);
/* Workspace of the commit, from the arena, to be reset by the caller. */
sl_status sli_edits_scratch(sl_context *context, const sl_layer_edit *edits, int count, void **scratch);
/* Put the edits into their layers. */
void sli_edits_commit(sl_context *context, sl_layer_edit *edits, int count, void *scratch);
/* Free what is left of an edit, committed or not. Cleared ones are allowed. */
void sli_edit_end(sl_layer_edit *edit);

/* Keep the `keep` largest weights, checked by the caller; see sl_layer_prune(). */
sl_status sli_layer_prune(sl_context *context, sl_layer *layer, int64_t keep, sl_optimizer *optimizer);
/* What sli_model_prune() drops: wanted[i] of each layer; without it the `all` smallest of them together; with n all but
 * the n largest of each m neighbours. */
typedef struct sl_pruning {
	int64_t all;
	const int64_t *wanted;
	int n, m;
} sl_pruning;
/* Of the first `count` layers. */
sl_status sli_model_prune(sl_context *context, sl_model *model, int count, const sl_pruning *pruning,
						  sl_optimizer *optimizer);

/* How a layer grows: see sl_regrow_options. `saved` NULL: at random. */
typedef struct sl_regrowth {
	sl_saved *saved;
	const sl_dense *dy;
	double spread;
	uint64_t stream;
	int m; /* 0: anywhere */
} sl_regrowth;
/* Drop *moves weights and grow as many; see sl_layer_regrow(). Receives how many there was room for. */
sl_status sli_layer_regrow(sl_context *context, sl_layer *layer, int64_t *moves, sl_optimizer *optimizer,
						   const sl_regrowth *growth);

/* The most weights that a neuron may gain of `count` that `neurons` gain together; 0: any number. */
int64_t sli_growth_limit(double spread, int64_t count, int64_t neurons);

/* Where tiles of a dense gradient come from: rows [row, row + tile->rows), row-major. */
typedef struct sl_tiles {
	void *self;
	sl_status (*make)(void *self, sl_context *context, const sl_layer *layer, int64_t row, sl_dense *tile);
} sl_tiles;
sl_status sli_offer_tiles(sl_context *context, const sl_layer *layer, const sl_tiles *tiles, sl_selection *selection,
						  int64_t base);
/* Rows of dZ X^T from row-major factors. */
sl_status sli_gradient_tile(sl_context *context, const sl_dense *dz, const sl_dense *x, int64_t row, sl_dense *tile);
/* Offer the magnitudes of dZ X^T, but for what the layer has, to a selection: a tile of rows at a time. */
sl_status sli_offer_gradient(sl_context *context, const sl_layer *layer, const sl_dense *dz, const sl_dense *x,
							 sl_selection *selection, int64_t base);

/* The same of a layer of sparse inputs: dz [batch, out] row-major. A limit of rows is one of neurons here, which are
 * columns. */
sl_status sli_offer_sparse_gradient(sl_context *context, const sl_layer *layer, const sl_dense *dz,
									const sl_sparse_batch *batch, sl_selection *selection, int64_t base);

#endif
