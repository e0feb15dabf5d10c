/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CUDA module on a fake runtime, through its own entry point: every layout against a reference in
 * double, and the failure of every call that it makes. Bounds are c * eps * sum |a||b| with c = 8. What only
 * a GPU can show (kernels, order in time) is seen by the same suite linked with the real libraries, which
 * skips what needs the fake's controls.
 */
#include <float.h>

#include <cusparse.h>

#include "support/module_data.h"

typedef struct spmm_case {
	sl_dtype dtype;
	int64_t rows, cols, n;
	double density;
	bool transpose;
	sl_order b_order, c_order;
	double alpha, beta;
} spmm_case;

static void check_spmm(test_host *h, void *device, const spmm_case *x) {
	int64_t m = x->transpose ? x->cols : x->rows, k = x->transpose ? x->rows : x->cols;
	matrix a = make_matrix(x->dtype, x->rows, x->cols, x->density, 7);
	view_block b = make_view(x->dtype, x->b_order, k, x->n), c = make_output(x->dtype, x->c_order, m, x->n, x->beta, 5);
	mirror mb = {0}, mc = {0};
	view_fill(&b, 3, 1);
	sum *s = sparse_reference(&a, x->transpose, &b, &c, x->alpha, x->beta);
	GOOD(h, matrix_up(device, &a));
	GOOD(h, mirror_up(device, &b, &mb));
	GOOD(h, mirror_up(device, &c, &mc));
	sl_op_desc desc = spmm_desc(&a, x->transpose, &mb.view, &mc.view);
	sl_op_args args = {.alpha = x->alpha, .beta = x->beta, .b = mb.view, .c = mc.view};
	args.values = a.nnz ? a.on_device[5] : NULL;
	GOOD(h, run_planned(device, &desc, &args));
	GOOD(h, mirror_down(device, &c, &mc));
	compare(&c, s, __LINE__);
	drop_matrix(device, &a), mirror_free(device, &mb), mirror_free(device, &mc);
	free_matrix(&a), view_free(&b), view_free(&c), free(s);
}

/* Shapes of A and the columns: full, empty, one row, one column, no rows, no columns, no batch, no nonzeros. */
static void all_spmm(sl_dtype dtype, bool transpose, bool deterministic) {
	static const struct {
		int64_t rows, cols, n;
		double density;
	} shapes[] = {{9, 13, 5, 0.4}, {1, 7, 4, 1}, {7, 1, 4, 1}, {1, 1, 1, 1}, {6, 5, 1, 1},     {0, 4, 3, 1},
				  {4, 0, 3, 1},    {5, 6, 0, 1}, {5, 6, 7, 0}, {0, 0, 0, 0}, {33, 40, 17, 0.1}};
	test_host h;
	init_host(&h);
	h.host.deterministic = deterministic;
	void *device = open_module(&h);
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		for (int o = 0; o < ORDERS * ORDERS; o++)
			for (int f = 0; f < FACTORS; f++) {
				spmm_case x = {dtype,     shapes[i].rows,     shapes[i].cols,     shapes[i].n,   shapes[i].density,
							   transpose, orders[o / ORDERS], orders[o % ORDERS], factors[f][0], factors[f][1]};
				check_spmm(&h, device, &x);
			}
	close_module(&h, device);
}

SL_TEST(cuda_module, spmm_f32) {
	all_spmm(SL_F32, false, false);
}

SL_TEST(cuda_module, spmm_f64) {
	all_spmm(SL_F64, false, false);
}

SL_TEST(cuda_module, spmm_transposed_f32) {
	all_spmm(SL_F32, true, false);
}

SL_TEST(cuda_module, spmm_transposed_f64) {
	all_spmm(SL_F64, true, false);
}

SL_TEST(cuda_module, spmm_deterministic) {
	all_spmm(SL_F32, false, true);
	all_spmm(SL_F32, true, true);
}

/* More columns than cuSPARSE's ALG1 takes: the fake gives zeros as the real one did. */
static void check_wide(int64_t n, sl_order order) {
	test_host h;
	init_host(&h);
	void *device = open_module(&h);
	spmm_case x = {SL_F32, 2, 2, n, 1, false, order, order, 1, 0.5};
	check_spmm(&h, device, &x);
	if (fake_cuda_present())
		CHECK_EQ(fake_cuda_widest(), n < 1048560 ? n : 1048560);
	close_module(&h, device);
}

SL_TEST(cuda_module, spmm_of_a_million_columns) {
	static const int64_t columns[] = {1048559, 1048560, 1048561, 1048560 + 100000};
	for (int i = 0; i < 4; i++) {
		check_wide(columns[i], SL_COL_MAJOR);
		check_wide(columns[i], SL_ROW_MAJOR);
	}
}

static void check_gemm(test_host *h, void *device, sl_dtype dtype, const int64_t *size, const sl_order *order,
					   double alpha, double beta) {
	int64_t m = size[0], n = size[1], k = size[2];
	view_block a = make_view(dtype, order[0], m, k), b = make_view(dtype, order[1], k, n);
	view_block c = make_output(dtype, order[2], m, n, beta, 5);
	mirror ma = {0}, mb = {0}, mc = {0};
	view_fill(&a, 1, 1), view_fill(&b, 2, 1);
	sum *s = calloc((size_t)(m * n) + 1, sizeof *s);
	for (int64_t r = 0; r < m; r++)
		for (int64_t j = 0; j < n; j++) {
			for (int64_t i = 0; i < k; i++)
				add(&s[r * n + j], alpha * view_load(&a.view, r, i) * view_load(&b.view, i, j));
			if (beta != 0)
				add(&s[r * n + j], beta * view_load(&c.view, r, j));
		}
	GOOD(h, mirror_up(device, &a, &ma));
	GOOD(h, mirror_up(device, &b, &mb));
	GOOD(h, mirror_up(device, &c, &mc));
	sl_op_desc desc = {.kind = SL_OP_GEMM, .a = describe(&ma.view), .b = describe(&mb.view), .c = describe(&mc.view)};
	sl_op_args args = {.alpha = alpha, .beta = beta, .a = ma.view, .b = mb.view, .c = mc.view};
	GOOD(h, run_planned(device, &desc, &args));
	GOOD(h, mirror_down(device, &c, &mc));
	compare(&c, s, __LINE__);
	mirror_free(device, &ma), mirror_free(device, &mb), mirror_free(device, &mc);
	view_free(&a), view_free(&b), view_free(&c), free(s);
}

static void all_gemm(sl_dtype dtype) {
	static const int64_t sizes[][3] = {{5, 7, 9}, {1, 6, 4}, {6, 1, 4}, {4, 6, 1}, {1, 1, 1},
									   {0, 3, 2}, {3, 0, 2}, {3, 2, 0}, {0, 0, 0}};
	test_host h;
	init_host(&h);
	void *device = open_module(&h);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		for (int o = 0; o < ORDERS * ORDERS * ORDERS; o++)
			for (int f = 0; f < FACTORS; f++) {
				sl_order order[3] = {orders[o / 16], orders[o / 4 % 4], orders[o % 4]};
				check_gemm(&h, device, dtype, sizes[i], order, factors[f][0], factors[f][1]);
			}
	close_module(&h, device);
}

SL_TEST(cuda_module, gemm_f32) {
	all_gemm(SL_F32);
}

SL_TEST(cuda_module, gemm_f64) {
	all_gemm(SL_F64);
}

/* A plan for 8 columns run with 5: the rest of the panel becomes zero; the workspace must do. */
static sl_status run_fewer(test_host *h, void *device, bool transpose) {
	matrix a = make_matrix(SL_F32, 6, 7, 0.5, 9);
	int64_t m = transpose ? 7 : 6, k = transpose ? 6 : 7;
	view_block b = view_create(SL_F32, SL_COL_PANELS, k, 5, 8), c = view_output(SL_F32, SL_COL_PANELS, m, 5, 8);
	mirror mb = {0}, mc = {0};
	const sl_backend *module = backend();
	view_fill(&b, 4, 1);
	sum *s = sparse_reference(&a, transpose, &b, &c, 1, 0);
	GOOD(h, matrix_up(device, &a));
	GOOD(h, mirror_up(device, &b, &mb));
	GOOD(h, mirror_up(device, &c, &mc));
	sl_dense b8 = mb.view, c8 = mc.view;
	b8.cols = c8.cols = 8;
	sl_op_desc desc = spmm_desc(&a, transpose, &b8, &c8);
	sl_op_plan plan;
	GOOD(h, module->plan(device, &desc, &plan));
	sl_op_args args = {.alpha = 1, .b = mb.view, .c = mc.view, .values = a.on_device[5]};
	GOOD(h, module->allocate(device, plan.workspace, SL_MEMORY_DEVICE, &args.workspace));
	sl_status status = module->execute(device, &plan, &args);
	if (status == SL_OK) {
		GOOD(h, mirror_down(device, &c, &mc));
		compare(&c, s, __LINE__);
	}
	module->release(device, args.workspace, plan.workspace, SL_MEMORY_DEVICE);
	module->destroy(device, &plan);
	drop_matrix(device, &a), mirror_free(device, &mb), mirror_free(device, &mc);
	free_matrix(&a), view_free(&b), view_free(&c), free(s);
	return status;
}

SL_TEST(cuda_module, fewer_columns_than_planned) {
	test_host h;
	init_host(&h);
	void *device = open_module(&h);
	GOOD(&h, run_fewer(&h, device, false));
	GOOD(&h, run_fewer(&h, device, true));
	if (fake_cuda_present()) {
		fake_cuda_falling_buffers(true);
		sl_status status = run_fewer(&h, device, false);
		fake_cuda_falling_buffers(false);
		REFUSED(&h, status, SL_ERR_BACKEND, "5 columns");
	}
	close_module(&h, device);
}

/* What cuSPARSE and cuBLAS would refuse, or get wrong, never reaches them. */
SL_TEST(cuda_module, refusals) {
	test_host h;
	init_host(&h);
	void *device = open_module(&h);
	const sl_backend *b = backend();
	sl_dense x = {.dtype = SL_F32, .rows = 4, .cols = 3, .ld = 3}, y = x;
	matrix m = {.rows = 4, .cols = 4, .nnz = 5, .dtype = SL_F32};
	long calls = fake_cuda_calls();
	sl_op_plan plan;
	sl_op_desc good = spmm_desc(&m, true, &x, &y), d;
	GOOD(&h, b->supports(device, &good));
#define WITH(change, status, text)                                                                                     \
	do {                                                                                                               \
		d = good;                                                                                                      \
		change;                                                                                                        \
		REFUSED(&h, b->supports(device, &d), status, text);                                                            \
		REFUSED(&h, b->plan(device, &d, &plan), status, text);                                                         \
	} while (0)
	WITH(d.kind = SL_OP_SDDMM; d.a.dtype = d.b.dtype = d.c.dtype = SL_BF16, SL_ERR_UNSUPPORTED, "no bf16");
	WITH(d.candidate = "fastest", SL_ERR_UNSUPPORTED, "candidate");
	WITH(d.kind = SL_OP_COUNT, SL_ERR_UNSUPPORTED, "not available");
	WITH(d.bias = true; d.a.dtype = d.b.dtype = d.c.dtype = SL_F16, SL_ERR_UNSUPPORTED, "bias");
	WITH(d.activation = SL_RELU; d.a.dtype = d.b.dtype = d.c.dtype = SL_BF16, SL_ERR_UNSUPPORTED, "activation");
	WITH(d.kernel = "fast", SL_ERR_UNSUPPORTED, "by name");
	WITH(d.c.dtype = SL_I32, SL_ERR_UNSUPPORTED, "f32, f64, bf16 and f16");
	WITH(d.b.dtype = SL_F64, SL_ERR_UNSUPPORTED, "one dtype");
	WITH(d.b.order = SL_COL_PANELS; d.b.ld = 2, SL_ERR_UNSUPPORTED, "needs B");
	WITH(d.c.order = SL_ROW_PANELS; d.c.ld = 2, SL_ERR_UNSUPPORTED, "needs C");
	WITH(d.kind = SL_OP_SDDMM; d.a = d.c; d.a.order = SL_COL_PANELS; d.a.ld = 2, SL_ERR_UNSUPPORTED, "needs A");
	WITH(d.kind = SL_OP_GEMM; d.a = d.c; d.a.dtype = SL_F16, SL_ERR_UNSUPPORTED, "one dtype");
	WITH(d.sparse.transposed.offset_dtype = SL_I64, SL_ERR_UNSUPPORTED, "offsets on the host");
	WITH(d.sparse.transposed.nnz = (int64_t)INT32_MAX + 1, SL_ERR_UNSUPPORTED, "offsets on the host");
	WITH(d.sparse.arrays.rows = (int64_t)1 << 40, SL_ERR_UNSUPPORTED, "rows and columns");
	WITH(d.sparse.arrays.cols = INT32_MAX, SL_ERR_UNSUPPORTED, "rows and columns");
#undef WITH
	REFUSED(&h, b->plan(device, &good, &plan), SL_ERR_NULL, "row offsets are null");
	CHECK_EQ(fake_cuda_calls(), calls);
	close_module(&h, device);
}

SL_TEST(cuda_module, null_data) {
	test_host h;
	init_host(&h);
	void *device = open_module(&h);
	const sl_backend *b = backend();
	matrix m = make_matrix(SL_F32, 4, 4, 1, 1);
	GOOD(&h, matrix_up(device, &m));
	void *data;
	GOOD(&h, b->allocate(device, 64, SL_MEMORY_DEVICE, &data));
	sl_dense x = {.data = data, .dtype = SL_F32, .rows = 4, .cols = 4, .ld = 4};
	sl_op_desc desc = spmm_desc(&m, false, &x, &x);
	sl_op_plan plan;
	GOOD(&h, b->plan(device, &desc, &plan));
	sl_op_args good = {.alpha = 1, .a = x, .b = x, .c = x, .values = m.on_device[5], .workspace = data}, args = good;
	args.values = NULL;
	REFUSED(&h, b->execute(device, &plan, &args), SL_ERR_NULL, "values are null");
	args = good, args.b.data = NULL;
	REFUSED(&h, b->execute(device, &plan, &args), SL_ERR_NULL, "B's data");
	args = good, args.c.data = NULL;
	REFUSED(&h, b->execute(device, &plan, &args), SL_ERR_NULL, "C's data");
	args = good, args.workspace = NULL;
	REFUSED(&h, b->execute(device, &plan, &args), SL_ERR_NULL, "workspace");
	b->destroy(device, &plan);
	desc = (sl_op_desc){.kind = SL_OP_GEMM, .a = describe(&x), .b = describe(&x), .c = describe(&x)};
	GOOD(&h, b->plan(device, &desc, &plan));
	args = good, args.a.data = NULL;
	REFUSED(&h, b->execute(device, &plan, &args), SL_ERR_NULL, "A's data");
	b->destroy(device, &plan);
	b->release(device, data, 64, SL_MEMORY_DEVICE);
	drop_matrix(device, &m);
	free_matrix(&m);
	close_module(&h, device);
}

SL_TEST(cuda_module, abi) {
	CHECK(!sl_backend_module(0));
	CHECK(!sl_backend_module(SL_BACKEND_ABI + 1));
	const sl_backend *b = backend();
	CHECK_EQ(b->panel_width(NULL, SL_F32, 77, true), 77);
	CHECK_EQ(b->panel_width(NULL, SL_F32, 0, true), 1);
}

SL_TEST(cuda_module, devices) {
	const sl_backend *b = backend();
	sl_device_info infos[4];
	need_fake();
	memset(infos, 0, sizeof infos);
	CHECK_EQ(b->devices(infos, 1), 2);
	CHECK(infos[0].usable && !infos[1].name[0]);
	CHECK_EQ(b->devices(infos, 4), 2);
	CHECK(infos[1].usable && infos[1].index == 1 && infos[1].units == 7 && infos[1].memory == 1u << 30);
	CHECK(strstr(infos[1].name, "fake GPU 1") && strstr(infos[1].detail, "9.1"));
	fake_cuda_fail_at(2); /* the properties of the second */
	CHECK_EQ(b->devices(infos, 4), 2);
	CHECK(infos[0].usable && !infos[1].usable && infos[1].detail[0] && fake_cuda_last_error() == 0);
	fake_cuda_fail_at(0);
	CHECK_EQ(b->devices(infos, 4), 1);
	CHECK(!infos[0].usable && infos[0].detail[0] && fake_cuda_last_error() == 0);
	fake_cuda_devices(0);
	CHECK_EQ(b->devices(infos, 0), 1);
	CHECK_EQ(b->devices(infos, 4), 1);
	CHECK(!infos[0].usable && infos[0].detail[0] && fake_cuda_last_error() == 0);
	test_host h;
	init_host(&h);
	void *device = &h;
	REFUSED(&h, b->open(&h.host, &device), SL_ERR_DEVICE, "no usable GPU");
	CHECK(!device && fake_cuda_live() == 0 && h.allocations == 0);
	fake_cuda_devices(2);
	for (int index = -1; index <= 2; index += 3) {
		h.host.device_index = index;
		REFUSED(&h, b->open(&h.host, &device), SL_ERR_DEVICE, "device_index");
	}
}

/* The second GPU is used and the caller's stays current; the caller's own stream is used and kept. */
SL_TEST(cuda_module, second_gpu_and_own_stream) {
	test_host h;
	init_host(&h);
	need_fake();
	cudaStream_t stream;
	CHECK(cudaSetDevice(1) == cudaSuccess);
	CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
	CHECK(cudaSetDevice(0) == cudaSuccess);
	h.host.device_index = 1;
	h.host.stream = stream;
	const sl_backend *b = backend();
	void *device, *event;
	char text[200];
	GOOD(&h, b->open(&h.host, &device));
	b->describe(device, text, sizeof text);
	CHECK(strstr(text, "fake GPU 1"));
	spmm_case x = {SL_F32, 5, 6, 7, 0.5, true, SL_ROW_MAJOR, SL_COL_MAJOR, 1, 0};
	check_spmm(&h, device, &x);
	GOOD(&h, b->event_create(device, &event));
	GOOD(&h, b->event_record(device, event));
	GOOD(&h, b->event_wait(device, event, true));
	GOOD(&h, b->event_wait(device, event, false));
	b->event_destroy(device, event);
	GOOD(&h, b->synchronize(device));
	b->close(device);
	CHECK_EQ(fake_cuda_live(), 1);
	CHECK(!*fake_cuda_fault());
	CHECK(cudaStreamDestroy(stream) == cudaSuccess);
	int current = -1;
	CHECK(cudaGetDevice(&current) == cudaSuccess && current == 0);
	CHECK_EQ(h.allocations, 0);
}

SL_TEST(cuda_module, memory) {
	test_host h;
	init_host(&h);
	h.budget = 1000;
	void *device = open_module(&h), *p, *q;
	const sl_backend *b = backend();
	REFUSED(&h, b->allocate(device, 1001, SL_MEMORY_DEVICE, &p), SL_ERR_BUDGET, "1001");
	CHECK(!p);
	h.budget = 0;
	REFUSED(&h, b->allocate(device, (size_t)1 << 40, SL_MEMORY_DEVICE, &p), SL_ERR_MEMORY, "1099511627776 bytes");
	CHECK(!p && h.reserved == 0 && fake_cuda_last_error() == 0);
	GOOD(&h, b->allocate(device, 0, SL_MEMORY_DEVICE, &p));
	CHECK(p);
	b->release(device, p, 0, SL_MEMORY_DEVICE);
	b->release(device, NULL, 10, SL_MEMORY_DEVICE);
	/* pinned -> device -> device -> host */
	char *pinned, back[100];
	void *host;
	GOOD(&h, b->allocate(device, 100, SL_MEMORY_PINNED, (void **)&pinned));
	GOOD(&h, b->allocate(device, 100, SL_MEMORY_HOST, &host));
	GOOD(&h, b->allocate(device, 100, SL_MEMORY_DEVICE, &p));
	GOOD(&h, b->allocate(device, 100, SL_MEMORY_DEVICE, &q));
	CHECK_EQ(h.reserved, 300);
	for (int i = 0; i < 100; i++)
		pinned[i] = (char)(i * 3);
	GOOD(&h, b->copy(device, p, SL_MEMORY_DEVICE, pinned, SL_MEMORY_PINNED, 100));
	GOOD(&h, b->fill(device, (char *)p + 10, 0x5a, 5));
	GOOD(&h, b->copy(device, q, SL_MEMORY_DEVICE, p, SL_MEMORY_DEVICE, 100));
	GOOD(&h, b->copy(device, host, SL_MEMORY_HOST, q, SL_MEMORY_DEVICE, 100));
	GOOD(&h, b->copy(device, back, SL_MEMORY_HOST, host, SL_MEMORY_HOST, 100));
	GOOD(&h, b->copy(device, NULL, SL_MEMORY_HOST, NULL, SL_MEMORY_DEVICE, 0));
	GOOD(&h, b->synchronize(device));
	GOOD(&h, b->fill(device, NULL, 0, 0));
	for (int i = 0; i < 100; i++)
		CHECK_EQ(back[i], i >= 10 && i < 15 ? 0x5a : (char)(i * 3));
	b->release(device, q, 100, SL_MEMORY_DEVICE);
	/* The copy fails and says so; the runtime keeps no error for its caller to find. */
	if (fake_cuda_present()) {
		CHECK(b->copy(device, back, SL_MEMORY_HOST, q, SL_MEMORY_DEVICE, 100) == SL_ERR_BACKEND);
		CHECK(strstr(h.message, "cudaMemcpyAsync") && strstr(fake_cuda_fault(), "freed"));
		CHECK_EQ(fake_cuda_last_error(), 0);
	}
	fake_cuda_reset();
	b->release(device, p, 100, SL_MEMORY_DEVICE);
	b->release(device, pinned, 100, SL_MEMORY_PINNED);
	b->release(device, host, 100, SL_MEMORY_HOST);
	close_module(&h, device);
}

/* What every_call_fails() runs: everything that the module calls, once. */
typedef struct scenario {
	void *device, *pinned, *host, *event;
	matrix a;
	view_block b, c, padded;
	mirror mb, mc, mp;
} scenario;

static sl_status play_memory(scenario *s) {
	const sl_backend *b = backend();
	SL_TRY(b->allocate(s->device, 64, SL_MEMORY_PINNED, &s->pinned));
	SL_TRY(b->allocate(s->device, 64, SL_MEMORY_HOST, &s->host));
	SL_TRY(matrix_up(s->device, &s->a));
	SL_TRY(mirror_up(s->device, &s->b, &s->mb));
	SL_TRY(mirror_up(s->device, &s->c, &s->mc));
	SL_TRY(mirror_up(s->device, &s->padded, &s->mp));
	SL_TRY(b->event_create(s->device, &s->event));
	SL_TRY(b->event_record(s->device, s->event));
	SL_TRY(b->event_wait(s->device, s->event, true));
	SL_TRY(b->event_wait(s->device, s->event, false));
	return b->synchronize(s->device);
}

/* C = A' A B - 0.5 C and more; the reference is not needed: a run without failures is the reference. */
static sl_status play_products(scenario *s) {
	sl_dense b = s->mb.view, c = s->mc.view, p = s->mp.view;
	matrix none = s->a;
	none.nnz = 0;
	sl_op_args args = {.alpha = 1, .b = b, .c = p, .values = s->a.on_device[5]};
	sl_op_desc desc = spmm_desc(&s->a, false, &b, &p);
	SL_TRY(run_planned(s->device, &desc, &args));
	desc = spmm_desc(&s->a, true, &p, &c);
	args.b = p, args.c = c, args.beta = -0.5;
	SL_TRY(run_planned(s->device, &desc, &args));
	/* nothing to multiply: C = 0.5 C, then P = 0 */
	desc = spmm_desc(&none, false, &b, &p);
	args.b = b, args.c = p, args.beta = 0.5;
	SL_TRY(run_planned(s->device, &desc, &args));
	args.beta = 0;
	SL_TRY(run_planned(s->device, &desc, &args));
	desc = (sl_op_desc){.kind = SL_OP_GEMM, .a = describe(&c), .b = describe(&b), .c = describe(&p)};
	desc.a.rows = p.rows, desc.a.cols = b.rows;
	args.a = c, args.a.rows = p.rows, args.a.cols = b.rows, args.c = p;
	desc.a.ld = args.a.ld = b.rows;
	SL_TRY(run_planned(s->device, &desc, &args));
	SL_TRY(mirror_down(s->device, &s->c, &s->mc));
	return mirror_down(s->device, &s->padded, &s->mp);
}

static void clean_up(scenario *s) {
	const sl_backend *b = backend();
	if (!s->device)
		return;
	b->event_destroy(s->device, s->event);
	b->release(s->device, s->pinned, 64, SL_MEMORY_PINNED);
	b->release(s->device, s->host, 64, SL_MEMORY_HOST);
	drop_matrix(s->device, &s->a);
	mirror_free(s->device, &s->mb), mirror_free(s->device, &s->mc), mirror_free(s->device, &s->mp);
	b->close(s->device);
}

/* Calls whose failure has nobody to be told to. */
static bool may_pass(const char *call) {
	return strstr(call, "Destroy") || strstr(call, "Free") || strstr(call, "cudaSetDevice") ||
		   strstr(call, "cudaGetDevice") || strstr(call, "cudaStreamIsCapturing");
}

static bool names(const char *message, const char *call) {
	if (!strcmp(call, "host memory"))
		return strstr(message, "no host memory") || strstr(message, "no memory for");
	if (!strcmp(call, "budget"))
		return strstr(message, "memory budget") != NULL;
	return strstr(message, call) || (!strcmp(call, "cudaGetDeviceCount") && strstr(message, "no usable GPU"));
}

/* Play with call k failing. False: there is no such call. */
static bool play(long k, double *checksum) {
	test_host h;
	init_host(&h);
	h.host.device_index = 1;
	scenario s = {.a = make_matrix(SL_F32, 5, 6, 0.6, 2)};
	s.b = make_view(SL_F32, SL_ROW_MAJOR, 6, 4);
	s.c = make_view(SL_F32, SL_COL_MAJOR, 6, 4);
	s.padded = make_view(SL_F32, SL_COL_PANELS, 5, 4);
	view_fill(&s.b, 1, 1), view_fill(&s.c, 2, 1), view_fill(&s.padded, 3, 1);
	fake_cuda_discard();
	fake_cuda_fail_at(k);
	sl_status status = backend()->open(&h.host, &s.device);
	CHECK((status == SL_OK) == (s.device != NULL));
	if (status == SL_OK)
		status = play_memory(&s);
	if (status == SL_OK)
		status = play_products(&s);
	bool in_time = *fake_cuda_failed() != 0; /* else it is cleaning up that fails: nobody is told */
	clean_up(&s);
	char failed[64];
	snprintf(failed, sizeof failed, "%s", fake_cuda_failed());
	if (*fake_cuda_fault())
		sl_test_fail(__FILE__, __LINE__, "call %ld, %s, failed: misuse: %s", k, failed, fake_cuda_fault());
	if (fake_cuda_live() || h.allocations || h.reserved)
		sl_test_fail(__FILE__, __LINE__, "call %ld, %s, failed: %ld objects, %ld allocations, %zu bytes leaked", k,
					 failed, fake_cuda_live(), h.allocations, h.reserved);
	CHECK_EQ(fake_cuda_last_error(), 0);
	if (status == SL_OK ? in_time && !may_pass(failed) : !*failed || !names(h.message, failed))
		sl_test_fail(__FILE__, __LINE__, "call %ld, %s, failed, and gave %s (%s)", k, failed, sl_status_name(status),
					 h.message);
	if (status == SL_OK) {
		double sum_of_all = 0;
		for (int64_t r = 0; r < 6; r++)
			for (int64_t j = 0; j < 4; j++)
				sum_of_all += view_load(&s.c.view, r, j) + (r < 5 ? view_load(&s.padded.view, r, j) : 0);
		if (k == -1)
			*checksum = sum_of_all;
		CHECK(sum_of_all == *checksum && sum_of_all != 0);
		CHECK(view_intact(&s.c) && view_intact(&s.padded));
	}
	free_matrix(&s.a), view_free(&s.b), view_free(&s.c), view_free(&s.padded);
	return *failed;
}

SL_TEST(cuda_module, every_call_fails) {
	double checksum = 0;
	need_fake();
	CHECK(!play(-1, &checksum));
	long calls = fake_cuda_calls(), k = 0;
	while (play(k, &checksum))
		k++;
	/* That nothing failed means that all calls were tried. */
	printf("%ld calls failed one at a time\n", k);
	CHECK(k > 100 && k == calls);
}

/* The fake itself: what the tests above rest on is seen by it. */
SL_TEST(fake_cuda, misuse_is_seen) {
	cusparseHandle_t handle;
	cusparseSpMatDescr_t a = NULL;
	cudaStream_t stream;
	void *p;
	int word = 1;
	need_fake();
#define SEEN(call, status, text)                                                                                       \
	do {                                                                                                               \
		fake_cuda_reset();                                                                                             \
		CHECK_EQ((int)(call), (int)(status));                                                                          \
		if (!strstr(fake_cuda_fault(), text))                                                                          \
			sl_test_fail(__FILE__, __LINE__, "%s: \"%s\" lacks \"%s\"", #call, fake_cuda_fault(), text);               \
	} while (0)
	CHECK(cudaMalloc(&p, 40) == cudaSuccess && cusparseCreate(&handle) == CUSPARSE_STATUS_SUCCESS);
	CHECK(cudaStreamCreateWithFlags(&stream, 0) == cudaSuccess);
	CHECK_EQ(fake_cuda_live(), 3);
	SEEN(cudaMemcpyAsync(p, &word, 41, cudaMemcpyHostToDevice, stream), cudaErrorInvalidValue, "allocation of 40");
	SEEN(cudaMemcpyAsync(&word, p, 4, cudaMemcpyHostToDevice, stream), cudaErrorInvalidValue, "not host memory");
	SEEN(cudaMemcpyAsync(&word, &word, 4, cudaMemcpyHostToDevice, stream), cudaErrorInvalidValue, "not device memory");
	SEEN(cudaMemsetAsync(NULL, 0, 4, stream), cudaErrorInvalidValue, "null");
	SEEN(cudaFree(&word), cudaErrorInvalidValue, "does not exist");
	CHECK(cudaSetDevice(1) == cudaSuccess);
	SEEN(cudaMemsetAsync(p, 0, 4, NULL), cudaErrorInvalidValue, "GPU 0");
	SEEN(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle, "GPU 0");
	CHECK(cudaSetDevice(0) == cudaSuccess);
	SEEN(cusparseCreateCsr(&a, 1, 1, 1, p, p, p, CUSPARSE_INDEX_64I, CUSPARSE_INDEX_32I, CUSPARSE_INDEX_BASE_ZERO,
						   CUDA_R_32F),
		 10, "refused");
	SEEN(cusparseCreateCsr(&a, 1, 1, 0, p, NULL, NULL, CUSPARSE_INDEX_32I, CUSPARSE_INDEX_32I, CUSPARSE_INDEX_BASE_ZERO,
						   CUDA_R_32F),
		 CUSPARSE_STATUS_INVALID_VALUE, "refused");
	CHECK(cusparseSetStream(handle, stream) == CUSPARSE_STATUS_SUCCESS);
	CHECK(cudaStreamDestroy(stream) == cudaSuccess);
	SEEN(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle, "stream does not exist");
	SEEN(cudaStreamDestroy(stream), cudaErrorInvalidValue, "does not exist");
	SEEN(cusparseGather(handle, NULL, NULL), CUSPARSE_STATUS_NOT_INITIALIZED, "stream does not exist");
	CHECK(cusparseDestroy(handle) == CUSPARSE_STATUS_SUCCESS);
	SEEN(cusparseGather(handle, NULL, NULL), CUSPARSE_STATUS_NOT_INITIALIZED, "handle does not exist");
	CHECK(cudaFree(p) == cudaSuccess);
	SEEN(cudaFree(p), cudaErrorInvalidValue, "does not exist");
	SEEN(cudaMemsetAsync(p, 0, 4, NULL), cudaErrorInvalidValue, "freed");
	CHECK_EQ(fake_cuda_live(), 0);
	fake_cuda_reset();
#undef SEEN
}
