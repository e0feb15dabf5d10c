/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data-parallel training on two GPUs: a process each, gradients summed by NCCL over the layer's enumerated parameters,
 * on the stream that the layer runs on. Skipped where there are not two GPUs, or no NCCL module.
 */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cuda.h"

enum { IN = 64, OUT = 32, BATCH = 64, STEPS = 20, RANKS = 2 };

static uint64_t hash_of(const sl_parameter *w, cudaStream_t stream) {
	unsigned char *host = malloc((size_t)w->count * sizeof(float));
	uint64_t hash = 14695981039346656037u;
	if (!host)
		exit(1);
	CUDA(cudaMemcpyAsync(host, w->value, (size_t)w->count * sizeof(float), cudaMemcpyDeviceToHost, stream));
	CUDA(cudaStreamSynchronize(stream));
	for (size_t i = 0; i < (size_t)w->count * sizeof(float); i++)
		hash = (hash ^ host[i]) * 1099511628211u;
	free(host);
	return hash;
}

/* w -= rate * gradient, the gradient having been summed over the ranks. */
static void update(cublasHandle_t blas, const sl_parameter *w, float rate) {
	float one = 1, by = -rate;
	BLAS(cublasSgeam_64(blas, CUBLAS_OP_N, CUBLAS_OP_N, w->count, 1, &one, w->value, w->count, &by, w->gradient,
						w->count, w->value, w->count));
}

/* Rank 0 makes the id, and must stay: the others find it by that. False: there is no NCCL. */
static bool exchange(int rank, sl_context *context, const int *ends, unsigned char *id) {
	if (rank)
		return read(ends[0], id, SL_COMM_ID_BYTES) == SL_COMM_ID_BYTES;
	if (sl_comm_unique_id(context, id) == SL_OK)
		return write(ends[1], id, SL_COMM_ID_BYTES) == SL_COMM_ID_BYTES;
	fprintf(stderr, "skipped: %s\n", sl_context_message(context));
	return false;
}

/* CUDA is first touched here, after the fork. */
static int work(int rank, const int *ends) {
	cudaStream_t stream;
	cublasHandle_t blas;
	sl_comm *comm;
	sl_layer *layer;
	sl_saved *saved;
	unsigned char id[SL_COMM_ID_BYTES];
	need_gpus(RANKS);
	CUDA(cudaSetDevice(rank));
	CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
	BLAS(cublasCreate(&blas));
	BLAS(cublasSetStream(blas, stream));
	sl_context *context = context_on(rank, stream);
	if (!exchange(rank, context, ends, id))
		return SKIPPED;
	SL(context, sl_comm_create(&comm, context,
							   &(sl_comm_options){SL_COMM_DEFAULTS, .kind = SL_COMM_NCCL, .unique_id = id, .rank = rank,
												  .size = RANKS}));
	SL(context, sl_linear_create(
					&layer, context,
					&(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = IN, .out_features = OUT, .density = 0.25}));
	SL(context, sl_layer_prepare(context, layer, BATCH, SL_MODE_TRAINING));
	SL(context, sl_saved_create(&saved, context, layer, BATCH));
	float *x = gpu_floats(BATCH * IN), *y = gpu_floats(BATCH * OUT);
	fill_random(x, BATCH * IN, 11u + (unsigned)rank, stream); /* each has a part of the batch */
	sl_dense X = on_gpu(rank, x, BATCH, IN), Y = on_gpu(rank, y, BATCH, OUT);
	sl_parameter w = {.struct_size = sizeof w};
	for (int i = 0; i < STEPS; i++) {
		SL(context, sl_layer_forward(context, layer, &X, &Y, saved));
		SL(context, sl_layer_backward(context, layer, saved, &Y, NULL, SL_OVERWRITE)); /* of |y|^2 / 2 */
		for (int k = 0; k < sl_layer_parameter_count(layer); k++) {
			SL(context, sl_layer_parameter(context, layer, k, &w));
			SL(context, sl_comm_all_reduce(context, comm, w.gradient, w.gradient, w.count, SL_F32, SL_COMM_SUM,
										   SL_COMM_ON_DEVICE, NULL));
			update(blas, &w, 0.1f / (RANKS * BATCH));
		}
	}
	SL(context, sl_layer_parameter(context, layer, 0, &w));
	SL(context, sl_comm_agree(context, comm, "the weights", hash_of(&w, stream)));
	if (!rank)
		printf("%d GPUs, %d steps: the weights agree\n", RANKS, STEPS);
	sl_comm_destroy(comm);
	sl_saved_destroy(saved);
	sl_layer_destroy(layer);
	sl_context_destroy(context);
	return 0;
}

static int wait_for(pid_t child) {
	int state = 0;
	return waitpid(child, &state, 0) == child && WIFEXITED(state) ? WEXITSTATUS(state) : 1;
}

int main(void) {
	int ends[2], worst = 0;
	pid_t children[RANKS];
	if (pipe(ends) != 0)
		return 1;
	for (int rank = 0; rank < RANKS; rank++) {
		children[rank] = fork();
		if (!children[rank]) {
			close(ends[rank ? 1 : 0]); /* where rank 0 ends early, rank 1 reads nothing */
			exit(work(rank, ends));
		}
	}
	close(ends[0]);
	close(ends[1]);
	for (int rank = 0; rank < RANKS; rank++) {
		int status = wait_for(children[rank]);
		worst = status > worst ? status : worst;
	}
	return worst;
}
