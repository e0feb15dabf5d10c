/* SPDX-License-Identifier: Apache-2.0 */
/* Layers of a training run that do not fit its memory budget. */
#ifndef SL_TOOLS_STREAMING_H
#define SL_TOOLS_STREAMING_H

#include <sparselayer/sparselayer.h>

enum { MOST_LAYERS = 65 };

typedef struct streaming {
	bool layer[MOST_LAYERS], any;
	char folder[3072], path[4096]; /* of the stores, and of the file that is committed */
	sl_optimizer_kind optimizer;
} streaming;

/* Which layers are to be streamed: the largest, until the rest fits. `sparse`: so many are sparse, and can be. */
sl_status choose_streamed(streaming *s, sl_context *context, size_t budget, const int64_t (*shapes)[2],
						  const double *densities, int count, int sparse, int64_t batch, sl_optimizer_kind optimizer);
/* Make the folder, where there is need of one. */
sl_status open_streaming(streaming *s, sl_context *context, const char *output);
/* Layer `index` on disk or in memory. */
sl_status create_layer(sl_layer **layer, sl_context *context, const streaming *s, int index,
					   const sl_linear_options *options);
/* Of a model that was loaded: whether it has streamed layers, which are committed to the file it came from. */
sl_status find_streaming(streaming *s, sl_context *context, const sl_model *model, const char *path);
void print_streaming(sl_context *context, const sl_model *model, const streaming *s);

#endif
