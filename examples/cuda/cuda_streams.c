/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two contexts on two streams of one GPU: while one layer works on a batch, the layer before it works on the next.
 * Events of the program's own say what waits for what. The outputs are those of one stream after the other, to the bit.
 */
#include <string.h>

#include "cuda.h"

enum { IN = 64, MIDDLE = 80, OUT = 40, BATCH = 32, BATCHES = 6 };

static sl_layer *make_layer(sl_context *context, int64_t in, int64_t out) {
	sl_layer *layer;
	SL(context, sl_linear_create(&layer, context,
								 &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = in, .out_features = out,
													  .density = 0.25, .activation = SL_RELU}));
	SL(context, sl_layer_prepare(context, layer, BATCH, SL_MODE_INFERENCE));
	return layer;
}

static void run(sl_context *context, const sl_layer *layer, float *from, int64_t in, float *to, int64_t out) {
	sl_dense X = on_gpu(0, from, BATCH, in), Y = on_gpu(0, to, BATCH, out);
	SL(context, sl_layer_forward(context, layer, &X, &Y, NULL));
}

int main(void) {
	cudaStream_t stream[2];
	cudaEvent_t written[2], read[2];
	sl_context *context[2];
	float *middle[2];
	need_gpus(1);
	for (int i = 0; i < 2; i++) {
		CUDA(cudaStreamCreateWithFlags(&stream[i], cudaStreamNonBlocking));
		CUDA(cudaEventCreateWithFlags(&written[i], cudaEventDisableTiming));
		CUDA(cudaEventCreateWithFlags(&read[i], cudaEventDisableTiming));
		context[i] = context_on(0, stream[i]);
		middle[i] = gpu_floats(BATCH * MIDDLE);
	}
	sl_layer *first = make_layer(context[0], IN, MIDDLE), *second = make_layer(context[1], MIDDLE, OUT);
	float *x = gpu_floats(BATCHES * BATCH * IN), *y = gpu_floats(BATCHES * BATCH * OUT);
	float *again = gpu_floats(BATCHES * BATCH * OUT);
	fill_random(x, BATCHES * BATCH * IN, 5, stream[0]);
	for (int i = 0; i < BATCHES; i++) {
		int slot = i % 2;
		if (i > 1) /* the second layer still reads what was there */
			CUDA(cudaStreamWaitEvent(stream[0], read[slot], 0));
		run(context[0], first, x + i * BATCH * IN, IN, middle[slot], MIDDLE);
		CUDA(cudaEventRecord(written[slot], stream[0]));
		CUDA(cudaStreamWaitEvent(stream[1], written[slot], 0));
		run(context[1], second, middle[slot], MIDDLE, y + i * BATCH * OUT, OUT);
		CUDA(cudaEventRecord(read[slot], stream[1]));
	}
	for (int i = 0; i < 2; i++)
		SL(context[i], sl_context_synchronize(context[i]));
	for (int i = 0; i < BATCHES; i++) {
		run(context[0], first, x + i * BATCH * IN, IN, middle[0], MIDDLE);
		SL(context[0], sl_context_synchronize(context[0]));
		run(context[1], second, middle[0], MIDDLE, again + i * BATCH * OUT, OUT);
		SL(context[1], sl_context_synchronize(context[1]));
	}
	static float one[BATCHES * BATCH * OUT], other[BATCHES * BATCH * OUT];
	CUDA(cudaMemcpyAsync(one, y, sizeof one, cudaMemcpyDeviceToHost, stream[0]));
	CUDA(cudaMemcpyAsync(other, again, sizeof other, cudaMemcpyDeviceToHost, stream[0]));
	CUDA(cudaStreamSynchronize(stream[0]));
	bool same = !memcmp(one, other, sizeof one);
	printf("%d batches on two streams: %s\n", BATCHES, same ? "as on one" : "DIFFERENT from one");
	sl_layer_destroy(first);
	sl_layer_destroy(second);
	for (int i = 0; i < 2; i++)
		sl_context_destroy(context[i]);
	return same ? 0 : 1;
}
