/* SPDX-License-Identifier: Apache-2.0 */
#include "streaming.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* What a layer takes that is trained in memory: columns and their transpose, values, gradient, moments. */
static double layer_bytes(const int64_t shape[2], double density, bool sparse, int states) {
	double cells = (double)shape[0] * (double)shape[1], nnz = sparse ? density * cells : cells;
	double entry = 4 * (2 + states) + (sparse ? 16 : 0);
	return nnz * entry + (sparse ? 16 * (double)(shape[0] + shape[1]) : 0);
}

static int states_of(sl_optimizer_kind kind) {
	return kind == SL_SGD ? 0 : kind < SL_ADAM ? 1 : 2;
}

sl_status choose_streamed(streaming *s, sl_context *context, size_t budget, const int64_t (*shapes)[2],
						  const double *densities, int count, int sparse, int64_t batch, sl_optimizer_kind optimizer) {
	sl_memory_usage usage = {.struct_size = sizeof usage};
	double bytes[MOST_LAYERS], all = 0, widest = 0;
	s->optimizer = optimizer;
	SL_TRY(sl_context_memory(context, &usage));
	/* Activations, two gradients of them and as much workspace. */
	for (int i = 0; i < count; i++) {
		bytes[i] = layer_bytes(shapes[i], densities[i], i < sparse, states_of(optimizer));
		all += bytes[i];
		double side = (double)(shapes[i][0] > shapes[i][1] ? shapes[i][0] : shapes[i][1]);
		widest = side > widest ? side : widest;
		all += 4 * (double)batch * (double)shapes[i][0];
	}
	all += 4 * (double)batch * ((double)shapes[0][1] + 4 * widest) + (double)usage.current;
	while (all > (double)budget * (s->any ? 0.5 : 0.9)) { /* what is streamed needs half of it for its slots */
		int largest = -1;
		for (int i = 0; i < sparse; i++)
			if (!s->layer[i] && densities[i] < 1 && (largest < 0 || bytes[i] > bytes[largest]))
				largest = i;
		if (largest < 0)
			break;
		s->layer[largest] = s->any = true;
		all -= bytes[largest];
	}
	return SL_OK;
}

sl_status open_streaming(streaming *s, sl_context *context, const char *output) {
	(void)context;
	s->any = false;
	for (int i = 0; i < MOST_LAYERS; i++)
		s->any |= s->layer[i];
	if (!s->any)
		return SL_OK;
	int n = snprintf(s->folder, sizeof s->folder, "%s.stream", output);
	if (n < 0 || n >= (int)sizeof s->folder)
		return SL_ERR_ARGUMENT;
	snprintf(s->path, sizeof s->path, "%s/model.safetensors", s->folder);
	if (mkdir(s->folder, 0777) && errno != EEXIST) {
		fprintf(stderr, "sparselayer: the folder %s could not be made: %s\n", s->folder, strerror(errno));
		return SL_ERR_IO;
	}
	return SL_OK;
}

sl_status create_layer(sl_layer **layer, sl_context *context, const streaming *s, int index,
					   const sl_linear_options *options) {
	if (!s->any || !s->layer[index] || options->dense)
		return sl_linear_create(layer, context, options);
	return sl_linear_create_streamed(
		layer, context, options,
		&(sl_streamed_options){SL_STREAMED_DEFAULTS, .folder = s->folder, .optimizer = s->optimizer});
}

sl_status find_streaming(streaming *s, sl_context *context, const sl_model *model, const char *path) {
	for (int i = 0; i < sl_model_layer_count(model) && i < MOST_LAYERS; i++) {
		sl_layer_info info = {.struct_size = sizeof info};
		SL_TRY(sl_layer_get_info(context, sl_model_layer(model, i), &info));
		s->layer[i] = info.streamed;
		s->any |= info.streamed;
	}
	snprintf(s->path, sizeof s->path, "%s", path);
	return SL_OK;
}

void print_streaming(sl_context *context, const sl_model *model, const streaming *s) {
	for (int i = 0; i < sl_model_layer_count(model) && i < MOST_LAYERS; i++) {
		sl_streamed_info info = {.struct_size = sizeof info};
		sl_layer_info layer = {.struct_size = sizeof layer};
		if (!s->layer[i] || sl_layer_get_streamed(context, sl_model_layer(model, i), &info) != SL_OK ||
			sl_layer_get_info(context, sl_model_layer(model, i), &layer) != SL_OK)
			continue;
		printf("layer %s: %lld weights on disk, %.2f GB\n", layer.name, (long long)info.nnz,
			   (double)info.store_bytes / 1e9);
	}
	printf("committed to %s\n", s->path);
}
