/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of an optimizer. */
#ifndef SL_TRAIN_OPTIMIZER_H
#define SL_TRAIN_OPTIMIZER_H

#include "core/host.h"
#include "layers/model.h"

enum { SL_MAX_PARAMETERS = 2, SL_MAX_STATES = 2 };

/* One layer's share. */
typedef struct sl_optimizer_entry {
	sl_layer *layer;  /* borrowed */
	uint64_t edition; /* of the layer that the state belongs to */
	sl_buffer state[SL_MAX_PARAMETERS][SL_MAX_STATES];
} sl_optimizer_entry;

struct sl_optimizer {
	sl_heap *heap;                /* owns this struct and `entries`; retained */
	sl_optimizer_options options; /* defaults filled in */
	int64_t steps;
	double gradient_norm;
	sl_optimizer_entry *entries;
	int count, capacity;
	/* A model whose layers are divided: norms are of all ranks' gradients. Borrowed; NULL: none. */
	const sl_model *divided;
	/* Of a device that has memory of its own: an sl_step, and where the host reads it. */
	sl_buffer step;
	sl_staging read;
	bool stale;   /* it does not know options and steps yet */
	bool sharded; /* the state is spread over ranks: src/train/shard.c */
};

/* Moment arrays a kind keeps for each parameter. */
int sli_optimizer_states(sl_optimizer_kind kind);
/* Options checked, with defaults in place of zeros. */
sl_status sli_optimizer_resolve(sl_context *context, const sl_optimizer_options *given, sl_optimizer_options *options);
sl_optimizer_entry *sli_optimizer_find(const sl_optimizer *optimizer, const sl_layer *layer);
sl_status sli_optimizer_add(sl_context *context, sl_optimizer *optimizer, sl_layer *layer);
sl_status sli_optimizer_step(sl_context *context, sl_optimizer *optimizer);
sl_status sli_optimizer_scale(sl_context *context, sl_optimizer *optimizer, double factor);
/* The learning rate of a step after `steps` others. */
double sli_optimizer_rate(const sl_optimizer *optimizer, int64_t steps);
/* The moments of an entry. */
void sli_optimizer_free_states(sl_optimizer_entry *entry);
/* Tell streamed layers what the next step does; whenever that changes. */
void sli_optimizer_arm(const sl_optimizer *optimizer);
/* For loading a training state. */
void sli_optimizer_set_steps(sl_optimizer *optimizer, int64_t steps);

#endif
