/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts, matrices, plans and layers on the (fake) GPU, through the public interface. */
#include <cublas_v2.h>

#include "support/gpu_context.h"

SL_TEST(cuda_context, is_described_and_falls_back) {
	sl_context *context = open_context();
	CHECK_EQ(sl_context_device(context), SL_DEVICE_CUDA);
	CHECK(strstr(sl_context_describe(context), "fake GPU 0"));
	CHECK_OK(context, sl_context_trim(context));
	close_context(context);
	/* Without a driver that lists a GPU: a status where it is insisted on, else the CPU. */
	sl_context_options options;
	char error[256] = "";
	SL_OPTIONS_INIT(options);
	fake_cuda_devices(0);
	options.device = SL_DEVICE_CUDA;
	options.error = error;
	options.error_size = sizeof error;
	CHECK_EQ(sl_context_create(&context, &options), SL_ERR_DEVICE);
	CHECK(strstr(error, "no usable GPU"));
	options.device = SL_DEVICE_AUTO;
	CHECK_EQ(sl_context_create(&context, &options), SL_OK);
	CHECK_EQ(sl_context_device(context), SL_DEVICE_CPU);
	close_context(context);
	fake_cuda_devices(2);
}

SL_TEST(cuda_context, matrices_live_on_it_and_travel) {
	sl_context *gpu = open_context(), *cpu = sl_test_context();
	sl_pattern *pattern;
	sl_csr *a, *b, *c, *t;
	sl_device place;
	float dense[6 * 5], again[6 * 5];
	CHECK_OK(gpu, sl_pattern_random(&pattern, gpu, 6, 5, 0.5, 3));
	CHECK_OK(cpu, sl_csr_create_pattern(&a, cpu, pattern, SL_F32));
	sl_test_fill(sl_csr_values(a), SL_F32, 15, 4);
	CHECK_OK(gpu, sl_csr_convert(&b, gpu, a, SL_F32));
	CHECK_OK(gpu, sl_csr_place(gpu, b, &place, NULL));
	CHECK_EQ(place, SL_DEVICE_CUDA);
	CHECK_OK(cpu, sl_csr_convert(&c, cpu, b, SL_F32));
	CHECK(!memcmp(sl_csr_values(a), sl_csr_values(c), 15 * 4));
	sl_csr_destroy(c);
	sl_dense view = sl_dense_view(dense, SL_F32, 6, 5), other = sl_dense_view(again, SL_F32, 5, 6);
	CHECK_OK(gpu, sl_csr_to_dense(gpu, b, &view));
	CHECK_OK(gpu, sl_csr_transpose(&t, gpu, b));
	CHECK_OK(gpu, sl_csr_to_dense(gpu, t, &other));
	for (int r = 0; r < 6; r++)
		for (int j = 0; j < 5; j++)
			CHECK(dense[r * 5 + j] == again[j * 6 + r]);
	CHECK_OK(gpu, sl_csr_check_finite(gpu, b));
	/* A matrix of the other place, or memory of it, is refused by name. */
	void *x = device_copy(gpu, NULL, 5 * 4 * 4), *y = device_copy(gpu, NULL, 6 * 4 * 4);
	sl_dense X = on_device(x, 5, 4), Y = on_device(y, 6, 4), H = on_device(dense, 5, 4);
	CHECK_STATUS(gpu, sl_spmm(gpu, SL_NO_TRANSPOSE, 1, a, &X, 0, &Y, NULL), SL_ERR_DEVICE, "A's values");
	CHECK_STATUS(gpu, sl_spmm(gpu, SL_NO_TRANSPOSE, 1, b, &H, 0, &Y, NULL), SL_ERR_DEVICE, "B is not memory that CUDA");
	CHECK_STATUS(cpu, sl_spmm(cpu, SL_NO_TRANSPOSE, 1, b, &view, 0, &other, NULL), SL_ERR_SHAPE, "");
	CHECK_STATUS(gpu, sl_csr_wrap(&c, gpu, pattern, dense, SL_F32, NULL, NULL), SL_ERR_DEVICE, "values");
	size_t before = sl_pattern_bytes(pattern);
	CHECK_OK(gpu, sl_spmm(gpu, SL_NO_TRANSPOSE, 1, b, &X, 0, &Y, NULL));
	CHECK(sl_pattern_bytes(pattern) > before); /* its mirror */
	device_free(gpu, x, 5 * 4 * 4);
	device_free(gpu, y, 6 * 4 * 4);
	sl_csr_destroy(a);
	sl_csr_destroy(b);
	sl_csr_destroy(t);
	sl_pattern_release(pattern);
	sl_context_destroy(cpu);
	close_context(gpu);
}

/* The candidate that is fastest on the device's clock runs, and the plan says so. */
SL_TEST(cuda_context, plans_are_measured) {
	static const struct {
		double alg2, alg3, write_out, gemm, tensor;
		const char *chosen;
		bool dense;
	} cases[] = {{50, 90, 90, 90, 99, "CSR_ALG2", false},
				 {90, 40, 90, 90, 99, "CSR_ALG3", false},
				 {90, 90, 90, 90, 7, "tensor cores", false},
				 {90, 90, 5, 5, 99, "cuBLAS", true}};
	sl_context *gpu = open_context();
	sl_pattern *pattern;
	sl_csr *a;
	char text[300];
	sl_dense X = on_device(NULL, 20, 8), Y = on_device(NULL, 30, 8);
	for (int i = 0; i < 4; i++) {
		sl_plan *plan;
		CHECK_OK(gpu, sl_pattern_random(&pattern, gpu, 30, 20, 0.3, 3)); /* which keeps what was measured */
		CHECK_OK(gpu, sl_csr_create_pattern(&a, gpu, pattern, SL_F32));
		fake_cuda_cost("(spmm_wide<T, VEC, LANES, TILES>)", 1000); /* own kernels are slow here */
		fake_cuda_cost("(spmm_narrow<T, N, true>)", 1000);
		fake_cuda_cost("(spmm_narrow<T, N, false>)", 1000);
		fake_cuda_cost("(spmm_tensor<T, TN>)", cases[i].tensor);
		fake_cuda_cost("cusparseSpMM ALG2", cases[i].alg2);
		fake_cuda_cost("cusparseSpMM ALG3", cases[i].alg3);
		fake_cuda_cost("cusparseSparseToDense", cases[i].write_out);
		fake_cuda_cost("cublasGemmEx", cases[i].gemm);
		CHECK_OK(gpu, sl_plan_spmm(&plan, gpu, SL_NO_TRANSPOSE, a, &X, &Y, NULL));
		CHECK_OK(gpu, sl_plan_describe(gpu, plan, text, sizeof text));
		if (!strstr(text, cases[i].chosen) || !strstr(text, "measured"))
			sl_test_fail(__FILE__, __LINE__, "\"%s\" lacks \"%s\" or \"measured\"", text, cases[i].chosen);
		CHECK_EQ(sl_plan_is_dense(plan), cases[i].dense);
		sl_plan_destroy(plan);
		if (i == 3)
			break;
		sl_csr_destroy(a);
		sl_pattern_release(pattern);
	}
	CHECK_OK(gpu, sl_context_set_plan_mode(gpu, SL_PLAN_SPARSE));
	sl_plan *plan;
	CHECK_OK(gpu, sl_plan_spmm(&plan, gpu, SL_NO_TRANSPOSE, a, &X, &Y, NULL));
	CHECK(!sl_plan_is_dense(plan));
	sl_plan_destroy(plan);
	sl_csr_destroy(a);
	sl_pattern_release(pattern);
	close_context(gpu);
}

/* What was measured is not measured again: for plans of the same description, and for calls without a plan. */
SL_TEST(cuda_context, measurements_are_kept_with_the_pattern) {
	sl_context *gpu = open_context();
	sl_pattern *pattern;
	sl_csr *a, *half;
	sl_plan *plan;
	char first[300], text[300];
	CHECK_OK(gpu, sl_pattern_random(&pattern, gpu, 30, 20, 0.3, 3));
	CHECK_OK(gpu, sl_csr_create_pattern(&a, gpu, pattern, SL_F32));
	CHECK_OK(gpu, sl_csr_create_pattern(&half, gpu, pattern, SL_F16));
	float x[20 * 9], y[30 * 9];
	void *px = device_copy(gpu, x, sizeof x), *py = device_copy(gpu, y, sizeof y);
	long runs[8];
	for (int k = 0; k < 8; k++) {
		/* The same twice; another batch, dtype, direction, layout and epilogue; the first once more. */
		sl_dense X = on_device(px, 20, k == 2 ? 4 : 8), Y = on_device(py, 30, X.cols);
		sl_epilogue relu = {SL_EPILOGUE_DEFAULTS, .activation = SL_RELU};
		if (k == 3)
			X.dtype = Y.dtype = SL_F16;
		if (k == 4) {
			sl_dense swapped = X;
			X = Y, Y = swapped;
		}
		if (k == 5)
			X.ld = 9;
		long before = fake_cuda_count("cudaEventRecord");
		CHECK_OK(gpu, sl_plan_spmm(&plan, gpu, k == 4 ? SL_TRANSPOSE : SL_NO_TRANSPOSE, k == 3 ? half : a, &X, &Y,
								   k == 6 ? &relu : NULL));
		runs[k] = fake_cuda_count("cudaEventRecord") - before;
		CHECK_OK(gpu, sl_plan_describe(gpu, plan, k ? text : first, sizeof text));
		CHECK(strstr(k ? text : first, "measured"));
		CHECK(k != 1 || !strcmp(text, first));
		sl_plan_destroy(plan);
		if (k == 0) { /* no plan of its own: by what was measured */
			before = fake_cuda_count("cudaEventRecord");
			CHECK_OK(gpu, sl_spmm(gpu, SL_NO_TRANSPOSE, 1, a, &X, 0, &Y, NULL));
			CHECK_EQ(fake_cuda_count("cudaEventRecord"), before);
		}
	}
	CHECK(runs[0] > 0 && runs[1] == 0 && runs[7] == 0);
	for (int k = 2; k < 7; k++)
		CHECK(runs[k] > 0);
	/* Another context measures for itself: it may be another GPU. */
	sl_context *other;
	sl_context_options options;
	SL_OPTIONS_INIT(options);
	other = open_with(&options);
	sl_dense X = on_device(NULL, 20, 8), Y = on_device(NULL, 30, 8);
	long before = fake_cuda_count("cudaEventRecord");
	CHECK_OK(other, sl_plan_spmm(&plan, other, SL_NO_TRANSPOSE, a, &X, &Y, NULL));
	CHECK(fake_cuda_count("cudaEventRecord") > before);
	sl_plan_destroy(plan);
	/* With more descriptions than are kept the oldest are forgotten, and nothing else happens. */
	for (int64_t n = 1; n < 70; n++) {
		X = on_device(NULL, 20, n), Y = on_device(NULL, 30, n);
		CHECK_OK(other, sl_plan_spmm(&plan, other, SL_NO_TRANSPOSE, a, &X, &Y, NULL));
		sl_plan_destroy(plan);
	}
	X = on_device(NULL, 20, 1), Y = on_device(NULL, 30, 1);
	before = fake_cuda_count("cudaEventRecord");
	CHECK_OK(other, sl_plan_spmm(&plan, other, SL_NO_TRANSPOSE, a, &X, &Y, NULL));
	CHECK(fake_cuda_count("cudaEventRecord") > before);
	sl_plan_destroy(plan);
	device_free(gpu, px, sizeof x);
	device_free(gpu, py, sizeof y);
	sl_csr_destroy(a);
	sl_csr_destroy(half);
	sl_pattern_release(pattern);
	sl_context_destroy(other);
	close_context(gpu);
}

/* cuBLAS rounds operands to TF32 only where it is asked for, and of f32 alone; cuSPARSE never does. */
SL_TEST(cuda_context, tf32_only_when_asked) {
	for (int asked = 0; asked < 2; asked++) {
		sl_context_options options;
		fake_cuda_discard();
		SL_OPTIONS_INIT(options);
		options.tf32 = asked;
		options.plan_mode = SL_PLAN_DENSE;
		sl_context *gpu = open_with(&options);
		int mode = (asked ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_DEFAULT_MATH) |
				   CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
		CHECK_EQ(fake_cuda_math_mode(), mode);
		static const sl_dtype dtypes[] = {SL_F32, SL_F64, SL_F16, SL_BF16};
		for (int t = 0; t < 4; t++) {
			size_t size = sl_dtype_size(dtypes[t]);
			void *a = device_copy(gpu, NULL, 12 * size), *b = device_copy(gpu, NULL, 20 * size);
			void *c = device_copy(gpu, NULL, 15 * size);
			sl_dense A = on_device(a, 3, 4), B = on_device(b, 4, 5), C = on_device(c, 3, 5);
			A.dtype = B.dtype = C.dtype = dtypes[t];
			int wanted = dtypes[t] == SL_F64            ? CUBLAS_COMPUTE_64F
						 : dtypes[t] == SL_F32 && asked ? CUBLAS_COMPUTE_32F_FAST_TF32
														: CUBLAS_COMPUTE_32F;
			CHECK_OK(gpu, sl_gemm(gpu, 1, &A, &B, 0, &C, NULL));
			CHECK_EQ(fake_cuda_compute_type(), wanted);
			/* A sparse matrix written out, and one that is not. */
			sl_pattern *pattern;
			sl_csr *s;
			CHECK_OK(gpu, sl_pattern_random(&pattern, gpu, 3, 4, 0.5, 1));
			CHECK_OK(gpu, sl_csr_create_pattern(&s, gpu, pattern, dtypes[t]));
			CHECK_OK(gpu, sl_context_set_plan_mode(gpu, SL_PLAN_DENSE));
			long before = fake_cuda_count("cublasGemmEx");
			CHECK_OK(gpu, sl_spmm(gpu, SL_NO_TRANSPOSE, 1, s, &B, 0, &C, NULL));
			CHECK_EQ(fake_cuda_count("cublasGemmEx"), before + 1);
			CHECK_EQ(fake_cuda_compute_type(), wanted);
			CHECK_OK(gpu, sl_context_set_plan_mode(gpu, SL_PLAN_SPARSE));
			CHECK_OK(gpu, sl_spmm(gpu, SL_NO_TRANSPOSE, 1, s, &B, 0, &C, NULL));
			CHECK_EQ(fake_cuda_sparse_compute_type(), dtypes[t] == SL_F64 ? CUDA_R_64F : CUDA_R_32F);
			sl_csr_destroy(s);
			sl_pattern_release(pattern);
			device_free(gpu, a, 12 * size);
			device_free(gpu, b, 20 * size);
			device_free(gpu, c, 15 * size);
		}
		close_context(gpu);
	}
}

/* A layer on the GPU beside the same one on the CPU: forward, dX, dW, db. */
static void check_layer(bool dense, sl_activation activation) {
	enum { IN = 9, OUT = 7, BATCH = 5 };
	sl_context *gpu = open_context(), *cpu = sl_test_context();
	sl_context *contexts[] = {cpu, gpu};
	float x[BATCH * IN], dy[BATCH * OUT], y[2][BATCH * OUT], dx[2][BATCH * IN], dw[2][IN * OUT], db[2][OUT];
	sl_test_fill(x, SL_F32, BATCH * IN, 1);
	sl_test_fill(dy, SL_F32, BATCH * OUT, 2);
	for (int i = 0; i < 2; i++) {
		sl_context *context = contexts[i];
		sl_layer *layer;
		sl_saved *saved;
		sl_linear_options options = {SL_LINEAR_DEFAULTS,         .in_features = IN, .out_features = OUT,
									 .density = dense ? 0 : 0.4, .dense = dense,    .bias = true,
									 .activation = activation};
		CHECK_OK(context, sl_linear_create(&layer, context, &options));
		CHECK_OK(context, sl_layer_prepare(context, layer, BATCH, SL_MODE_TRAINING));
		CHECK_OK(context, sl_saved_create(&saved, context, layer, BATCH));
		void *p[4] = {x, dy, y[i], dx[i]};
		const size_t bytes[4] = {sizeof x, sizeof dy, sizeof y[i], sizeof dx[i]};
		for (int k = 0; k < 4 && i; k++)
			p[k] = device_copy(gpu, k < 2 ? p[k] : NULL, bytes[k]);
		sl_dense X = sl_dense_view(p[0], SL_F32, BATCH, IN), dY = sl_dense_view(p[1], SL_F32, BATCH, OUT);
		sl_dense Y = sl_dense_view(p[2], SL_F32, BATCH, OUT), dX = sl_dense_view(p[3], SL_F32, BATCH, IN);
		X.device = Y.device = dX.device = dY.device = sl_context_device(context);
		sl_memory_usage before = {.struct_size = sizeof before}, after = before;
		for (int round = 0; round < 2; round++) {
			CHECK_OK(context, sl_context_memory(context, &before));
			CHECK_OK(context, sl_layer_forward(context, layer, &X, &Y, saved));
			CHECK_OK(context, sl_layer_backward(context, layer, saved, &dY, &dX, round ? SL_ACCUMULATE : SL_OVERWRITE));
			CHECK_OK(context, sl_context_memory(context, &after));
		}
		CHECK_EQ(before.allocations, after.allocations);
		sl_parameter w = {.struct_size = sizeof w}, b = w;
		CHECK_OK(context, sl_layer_parameter(context, layer, 0, &w));
		CHECK_OK(context, sl_layer_parameter(context, layer, 1, &b));
		CHECK_EQ(w.device, sl_context_device(context));
		if (i) {
			read_back(gpu, y[i], p[2], sizeof y[i]);
			read_back(gpu, dx[i], p[3], sizeof dx[i]);
			read_back(gpu, dw[i], w.gradient, (size_t)w.count * 4);
			read_back(gpu, db[i], b.gradient, sizeof db[i]);
			for (int k = 0; k < 4; k++)
				device_free(gpu, p[k], bytes[k]);
		} else {
			memcpy(dw[i], w.gradient, (size_t)w.count * 4);
			memcpy(db[i], b.gradient, sizeof db[i]);
		}
		for (int64_t k = 0; k < w.count && i; k++)
			CHECK_NEAR(dw[1][k], dw[0][k], 1e-5);
		sl_saved_destroy(saved);
		sl_layer_destroy(layer);
	}
	for (int k = 0; k < BATCH * OUT; k++)
		CHECK_NEAR(y[1][k], y[0][k], 1e-5);
	for (int k = 0; k < BATCH * IN; k++)
		CHECK_NEAR(dx[1][k], dx[0][k], 1e-5);
	for (int k = 0; k < OUT; k++)
		CHECK_NEAR(db[1][k], db[0][k], 1e-5);
	sl_context_destroy(cpu);
	close_context(gpu);
}

SL_TEST(cuda_context, layers_as_on_the_cpu) {
	static const sl_activation activations[] = {SL_IDENTITY, SL_RELU, SL_GELU, SL_TANH};
	for (int dense = 0; dense < 2; dense++)
		for (int i = 0; i < 4; i++)
			check_layer(dense, activations[i]);
}

/* Forward and backward of a prepared layer, captured once and replayed over other inputs. */
SL_TEST(cuda_context, a_layer_in_a_graph) {
	enum { IN = 9, OUT = 7, BATCH = 5 };
	cudaStream_t stream;
	cudaGraph_t graph;
	cudaGraphExec_t exec;
	sl_context_options options;
	float x[BATCH * IN], dy[BATCH * OUT], eager[BATCH * OUT], replayed[BATCH * OUT], dw[2][IN * OUT];
	fake_cuda_discard();
	CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
	SL_OPTIONS_INIT(options);
	options.stream = stream;
	sl_context *gpu = open_with(&options);
	sl_layer *layer, *unprepared;
	sl_saved *saved;
	sl_linear_options o = {SL_LINEAR_DEFAULTS, .in_features = IN, .out_features = OUT,
						   .density = 0.4,     .bias = true,      .activation = SL_RELU};
	CHECK_OK(gpu, sl_linear_create(&layer, gpu, &o));
	CHECK_OK(gpu, sl_linear_create(&unprepared, gpu, &o));
	CHECK_OK(gpu, sl_layer_prepare(gpu, layer, BATCH, SL_MODE_TRAINING));
	CHECK_OK(gpu, sl_saved_create(&saved, gpu, layer, BATCH));
	void *px = device_copy(gpu, NULL, sizeof x), *pdy = device_copy(gpu, NULL, sizeof dy);
	void *py = device_copy(gpu, NULL, sizeof eager);
	sl_dense X = on_device(px, BATCH, IN), dY = on_device(pdy, BATCH, OUT), Y = on_device(py, BATCH, OUT);
	sl_parameter w = {.struct_size = sizeof w};
	CHECK_OK(gpu, sl_layer_parameter(gpu, layer, 0, &w));
	uint64_t generation = sl_layer_generation(gpu, layer);
	CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
	CHECK_OK(gpu, sl_layer_forward(gpu, layer, &X, &Y, saved));
	CHECK_OK(gpu, sl_layer_backward(gpu, layer, saved, &dY, NULL, SL_OVERWRITE));
	/* What was not prepared is refused, and the capture goes on. */
	CHECK_STATUS(gpu, sl_layer_prepare(gpu, unprepared, BATCH, SL_MODE_TRAINING), SL_ERR_STATE, "captures a graph");
	CHECK_STATUS(gpu, sl_context_synchronize(gpu), SL_ERR_STATE, "captures a graph");
	CHECK(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
	CHECK(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
	CHECK(cudaGraphDestroy(graph) == cudaSuccess);
	for (uint64_t round = 1; round < 4; round++) {
		sl_device_state *state = sli_device(gpu);
		sl_test_fill(x, SL_F32, BATCH * IN, round);
		sl_test_fill(dy, SL_F32, BATCH * OUT, round + 10);
		CHECK_OK(gpu, state->backend->copy(state->device, px, SL_MEMORY_DEVICE, x, SL_MEMORY_HOST, sizeof x));
		CHECK_OK(gpu, state->backend->copy(state->device, pdy, SL_MEMORY_DEVICE, dy, SL_MEMORY_HOST, sizeof dy));
		CHECK(cudaGraphLaunch(exec, stream) == cudaSuccess);
		read_back(gpu, replayed, py, sizeof replayed);
		read_back(gpu, dw[0], w.gradient, (size_t)w.count * 4);
		CHECK_OK(gpu, sl_layer_forward(gpu, layer, &X, &Y, saved));
		CHECK_OK(gpu, sl_layer_backward(gpu, layer, saved, &dY, NULL, SL_OVERWRITE));
		read_back(gpu, eager, py, sizeof eager);
		read_back(gpu, dw[1], w.gradient, (size_t)w.count * 4);
		CHECK(!memcmp(eager, replayed, sizeof eager));
		CHECK(!memcmp(dw[0], dw[1], (size_t)w.count * 4));
	}
	CHECK_EQ(sl_layer_generation(gpu, layer), generation);
	/* A larger batch is planned anew: the graph is stale then. */
	CHECK_OK(gpu, sl_layer_prepare(gpu, layer, 2 * BATCH, SL_MODE_TRAINING));
	CHECK(sl_layer_generation(gpu, layer) != generation);
	CHECK(cudaGraphExecDestroy(exec) == cudaSuccess);
	device_free(gpu, px, sizeof x);
	device_free(gpu, pdy, sizeof dy);
	device_free(gpu, py, sizeof eager);
	sl_saved_destroy(saved);
	sl_layer_destroy(layer);
	sl_layer_destroy(unprepared);
	sl_context_destroy(gpu);
	CHECK(cudaStreamDestroy(stream) == cudaSuccess);
	CHECK(!*fake_cuda_fault());
	CHECK_EQ(fake_cuda_live(), 0);
}
