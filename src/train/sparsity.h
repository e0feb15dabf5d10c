/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a schedule of patterns. The model owns it. */
#ifndef SL_TRAIN_SPARSITY_H
#define SL_TRAIN_SPARSITY_H

#include <sparselayer/sparsity.h>

#include "train/edit.h"

/* One layer's share. */
typedef struct sl_governed {
	int index;        /* in the model */
	int64_t first;    /* entries when the schedule began */
	int64_t final;    /* GMP, L1: entries at its end */
	int64_t base;     /* of its cells, where layers share a selection */
	int64_t seen;     /* the step whose gradient was offered */
	uint64_t edition; /* of the layer then */
	sl_selection selection;
} sl_governed;

typedef struct sl_sparsity {
	sl_heap *heap; /* owns this struct and `layers`; retained */
	const sl_model *model;
	sl_sparsity_options options; /* defaults filled in; `densities` NULL */
	int64_t steps, edits;
	sl_governed *layers;
	int count;
} sl_sparsity;

/* Options checked, with defaults in place of zeros. */
sl_status sli_sparsity_resolve(sl_context *context, const sl_model *model, const sl_sparsity_options *given,
							   sl_sparsity_options *options);
sl_status sli_sparsity_set(sl_context *context, sl_model *model, const sl_sparsity_options *options);
void sli_sparsity_drop(sl_model *model);
/* A schedule as it stood, in place of the one that is there; of `layers` (copied) index, first and final count. */
sl_status sli_sparsity_adopt(sl_context *context, sl_model *model, const sl_sparsity_options *options,
							 const sl_governed *layers, int count, int64_t steps, int64_t edits);
/* The layers have other shapes now. */
void sli_sparsity_reshaped(sl_sparsity *s);
sl_status sli_sparsity_step(sl_context *context, sl_model *model, sl_optimizer *optimizer, sl_sparsity_edit *edit);

/* Whether an edit follows a step (from 1), and which step is the last that one follows. */
bool sli_sparsity_due(const sl_sparsity *s, int64_t step);
int64_t sli_sparsity_last(const sl_sparsity *s);
double sli_sparsity_fraction(const sl_sparsity *s, int64_t step);
/* Look at the coming backward if it precedes an edit by gradient. */
void sli_sparsity_arm(sl_model *model);
/* What the watch sees, from tiles that come from elsewhere; the last layer first. */
sl_status sli_sparsity_see(sl_context *context, sl_sparsity *s, const sl_layer *layer, const sl_tiles *tiles);
/* How many entries SET and RigL move: of a layer, or (NULL) of all together. */
int64_t sli_sparsity_moves(const sl_sparsity *s, const sl_layer *layer, int64_t step);

#endif
