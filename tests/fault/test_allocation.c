/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every creating call survives the failure of each of its allocations: allocation 0 fails, then 1, then
 * 2, until the call succeeds. Each failure is SL_ERR_MEMORY with a message, leaves the result null, and
 * gives every byte back. What libraries underneath take from malloc is failed as well, where no sanitizer
 * has malloc for itself.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "support/check.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
#define OWN_MALLOC 0
#else
#define OWN_MALLOC 1
#endif

static struct {
	long until;     /* successful allocations before the one that fails; negative: none fails */
	bool of_malloc; /* count malloc's, else those of the context's hooks */
	bool failed;
	long live; /* bytes through the hooks */
} fault = {.until = -1};

static bool fails(bool of_malloc) {
	if (fault.of_malloc != of_malloc || fault.until < 0)
		return false;
	if (fault.until-- > 0)
		return false;
	fault.failed = true; /* this one alone: what follows must cope with success as well */
	return true;
}

#if OWN_MALLOC
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);
static __thread bool watched;
#define SEEN_BY_ALL __attribute__((visibility("default")))

SEEN_BY_ALL void *malloc(size_t bytes) {
	return watched && fails(true) ? NULL : __libc_malloc(bytes);
}
SEEN_BY_ALL void *calloc(size_t count, size_t bytes) {
	return watched && fails(true) ? NULL : __libc_calloc(count, bytes);
}
SEEN_BY_ALL void *realloc(void *old, size_t bytes) {
	return watched && fails(true) ? NULL : __libc_realloc(old, bytes);
}
#endif

static void *allocate(void *user, size_t bytes, size_t alignment, sl_memory kind) {
	(void)user, (void)kind;
	if (fails(false))
		return NULL;
	void *p = aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
	if (p)
		fault.live += (long)bytes;
	return p;
}

static void give_back(void *user, void *pointer, size_t bytes, sl_memory kind) {
	(void)user, (void)kind;
	fault.live -= (long)bytes;
	free(pointer);
}

/* One way to run a product, so that a plan without memory has no other to fall back to. */
static sl_plan_mode mode = SL_PLAN_SPARSE;

static sl_status open_context(sl_context **context) {
	sl_context_options o;
	SL_OPTIONS_INIT(o);
	o.device = SL_DEVICE_CPU;
	o.threads = 2;
	o.seed = 1;
	o.plan_mode = mode;
	o.calibration = "off";
	o.allocator = (sl_allocator){NULL, allocate, give_back};
	return sl_context_create(context, &o);
}

/* What the calls work on. Made without faults. */
typedef struct things {
	sl_context *context;
	sl_pattern *pattern;
	sl_csr *csr;
	sl_layer *layer;
	sl_model *model;
	sl_optimizer *optimizer;
	sl_samples samples;
} things;

enum { SIDE = 12, BATCH = 9 };
static float dense_data[SIDE * 64];
static int32_t label_data[64];
static char folder[64];

static const char *path(const char *name) {
	static char text[128];
	snprintf(text, sizeof text, "%s/%s", folder, name);
	return text;
}

static sl_status make_layer(sl_context *context, sl_layer **layer, double density) {
	sl_linear_options o;
	SL_OPTIONS_INIT(o);
	o.in_features = o.out_features = SIDE;
	o.density = density;
	o.dense = density == 1;
	o.bias = true;
	o.activation = SL_GELU;
	return sl_linear_create(layer, context, &o);
}

static sl_status make_model(sl_context *context, sl_model **model) {
	SL_TRY(sl_model_create(model, context));
	sl_status status = SL_OK;
	for (int i = 0; i < 2 && status == SL_OK; i++) {
		sl_layer *layer;
		status = make_layer(context, &layer, i ? 1 : 0.3);
		if (status == SL_OK && (status = sl_model_add(context, *model, layer)) != SL_OK)
			sl_layer_destroy(layer);
	}
	if (status != SL_OK) {
		sl_model_destroy(*model);
		*model = NULL;
	}
	return status;
}

static sl_status make_optimizer(sl_context *context, sl_model *model, sl_optimizer **optimizer) {
	sl_optimizer_options o;
	SL_OPTIONS_INIT(o);
	o.kind = SL_ADAM;
	SL_TRY(sl_optimizer_create(optimizer, context, &o));
	sl_status status = sl_model_add_to_optimizer(context, model, *optimizer);
	if (status != SL_OK) {
		sl_optimizer_destroy(*optimizer);
		*optimizer = NULL;
	}
	return status;
}

static void make_things(things *t) {
	memset(t, 0, sizeof *t);
	sl_test_fill(dense_data, SL_F32, SIDE * 64, 1);
	for (int i = 0; i < 64; i++)
		label_data[i] = i % SIDE;
	CHECK(open_context(&t->context) == SL_OK);
	CHECK_OK(t->context, sl_pattern_random(&t->pattern, t->context, SIDE, SIDE, 0.4, 1));
	CHECK_OK(t->context, sl_csr_create_pattern(&t->csr, t->context, t->pattern, SL_F32));
	sl_test_fill(sl_csr_values(t->csr), SL_F32, llround(0.4 * SIDE * SIDE), 1);
	CHECK_OK(t->context, make_layer(t->context, &t->layer, 0.3));
	CHECK_OK(t->context, make_model(t->context, &t->model));
	CHECK_OK(t->context, make_optimizer(t->context, t->model, &t->optimizer));
	sl_sparsity_options schedule;
	SL_OPTIONS_INIT(schedule);
	schedule.method = SL_SPARSE_SET;
	schedule.end = 100000;
	CHECK_OK(t->context, sl_model_set_sparsity(t->context, t->model, &schedule));
	SL_OPTIONS_INIT(t->samples);
	t->samples.inputs = sl_dense_view(dense_data, SL_F32, 40, SIDE);
	t->samples.labels = label_data;
}

static void drop_things(things *t) {
	sl_optimizer_destroy(t->optimizer);
	sl_model_destroy(t->model);
	sl_layer_destroy(t->layer);
	sl_csr_destroy(t->csr);
	sl_pattern_release(t->pattern);
	sl_context_destroy(t->context);
}

/* A call, which destroys what it made; `*left` must be null after a failure. */
typedef sl_status (*call)(things *t, void **left);

#define MAKES(type, destroy, ...)                                                                                      \
	type *made = NULL;                                                                                                 \
	sl_status status = __VA_ARGS__;                                                                                    \
	*left = status == SL_OK ? NULL : (void *)made;                                                                     \
	destroy(made);                                                                                                     \
	return status

static const int64_t entry_rows[] = {3, 0, 3, 1, 11}, entry_cols[] = {2, 5, 0, 11, 1};
static const int32_t offsets[SIDE + 1] = {0, 1, 2, 2, 4, 4, 4, 4, 4, 4, 4, 4, 5}, columns[] = {5, 11, 2, 0, 1};
static const float values[] = {1, 2, 3, 4, 5};

static sl_status comm_create(things *t, void **left) {
	MAKES(sl_comm, sl_comm_destroy,
		  sl_comm_create(&made, t->context, &(sl_comm_options){SL_COMM_DEFAULTS, .kind = SL_COMM_SELF}));
}
static sl_status parallel_create(things *t, void **left) {
	sl_parallel *made = NULL;
	sl_comm *comm = NULL;
	*left = NULL;
	SL_TRY(sl_comm_create(&comm, t->context, &(sl_comm_options){SL_COMM_DEFAULTS, .kind = SL_COMM_SELF}));
	sl_status status = sl_parallel_create(&made, t->context, comm, t->model, t->optimizer,
										  &(sl_parallel_options){SL_PARALLEL_DEFAULTS, .shards = 3});
	if (status == SL_OK)
		status = sl_model_fit(
			t->context, t->model, t->optimizer, &t->samples,
			&(sl_fit_options){SL_FIT_DEFAULTS, .epochs = 1, .batch = 16, .validation = &t->samples, .parallel = made});
	else
		*left = (void *)made;
	sl_parallel_destroy(made);
	sl_comm_destroy(comm);
	return status;
}
static sl_status divided_layer(things *t, void **left) {
	sl_comm *comm = NULL, *part = NULL;
	sl_model *model = NULL;
	sl_layer *layer = NULL;
	sl_loss_result result;
	static float x[3 * SIDE];
	static const int32_t classes[3] = {0, 3, 1};
	sl_dense inputs = sl_dense_view(x, SL_F32, 3, SIDE);
	sl_linear_options o = {SL_LINEAR_DEFAULTS, .in_features = SIDE, .out_features = SIDE, .density = 0.4, .bias = true};
	*left = NULL;
	SL_TRY(sl_comm_create(&comm, t->context, &(sl_comm_options){SL_COMM_DEFAULTS, .kind = SL_COMM_SELF}));
	sl_status status = sl_comm_split(&part, t->context, comm, 0, 0);
	if (status == SL_OK)
		status = sl_model_create(&model, t->context);
	if (status == SL_OK)
		status = sl_model_add_divided(t->context, model, part, &o, 3);
	if (status == SL_OK)
		status = sl_linear_create(&layer, t->context, &o);
	if (status == SL_OK && (status = sl_model_add(t->context, model, layer)) != SL_OK)
		sl_layer_destroy(layer);
	if (status == SL_OK)
		status = sl_model_add_divided(t->context, model, part, &o, 4);
	if (status == SL_OK)
		status = sl_model_train_batch(t->context, model, SL_SOFTMAX_CROSS_ENTROPY, &inputs,
									  &(sl_targets){.labels = classes}, SL_OVERWRITE, &result);
	sl_model_destroy(model);
	sl_comm_destroy(part);
	sl_comm_destroy(comm);
	return status;
}
static sl_status pattern_create(things *t, void **left) {
	MAKES(sl_pattern, sl_pattern_release,
		  sl_pattern_create(&made, t->context, SIDE, SIDE, 5, offsets, SL_I32, columns, SL_I32));
}
static sl_status pattern_wrap(things *t, void **left) {
	static const int32_t sorted[] = {5, 11, 0, 2, 1};
	MAKES(sl_pattern, sl_pattern_release,
		  sl_pattern_wrap(&made, t->context, SIDE, SIDE, 5, offsets, SL_I32, sorted, NULL, NULL));
}
static sl_status pattern_wrap_device(things *t, void **left) {
	static const int32_t sorted[] = {5, 11, 0, 2, 1};
	MAKES(sl_pattern, sl_pattern_release,
		  sl_pattern_wrap_device(&made, t->context, SIDE, SIDE, 5, offsets, SL_I32, sorted, false, NULL, NULL));
}
static sl_status pattern_random(things *t, void **left) {
	MAKES(sl_pattern, sl_pattern_release, sl_pattern_random(&made, t->context, SIDE, SIDE, 0.3, 2));
}
static sl_status pattern_n_m(things *t, void **left) {
	MAKES(sl_pattern, sl_pattern_release, sl_pattern_n_m(&made, t->context, SIDE, SIDE, 2, 4, 2));
}
static sl_status pattern_full(things *t, void **left) {
	MAKES(sl_pattern, sl_pattern_release, sl_pattern_full(&made, t->context, SIDE, SIDE));
}
/* On a pattern of its own: what is cached is not asked for twice. */
static sl_status pattern_transpose(things *t, void **left) {
	sl_pattern *pattern;
	sl_pattern_arrays arrays;
	const void *permutation;
	sl_dtype dtype;
	*left = NULL;
	SL_TRY(sl_pattern_random(&pattern, t->context, SIDE, SIDE, 0.3, 2));
	sl_status status = sl_pattern_transpose(t->context, pattern, &arrays, &permutation, &dtype);
	sl_pattern_release(pattern);
	return status;
}
static sl_status csr_create(things *t, void **left) {
	MAKES(sl_csr, sl_csr_destroy,
		  sl_csr_create(&made, t->context, SIDE, SIDE, 5, offsets, SL_I32, columns, SL_I32, values, SL_F32, NULL));
}
static sl_status csr_create_csc(things *t, void **left) {
	MAKES(sl_csr, sl_csr_destroy,
		  sl_csr_create_csc(&made, t->context, SIDE, SIDE, 5, offsets, SL_I32, columns, SL_I32, values, SL_F32, NULL));
}
static sl_status csr_create_coo(things *t, void **left) {
	MAKES(sl_csr, sl_csr_destroy,
		  sl_csr_create_coo(&made, t->context, SIDE, SIDE, 5, entry_rows, entry_cols, SL_I64, values, SL_F32, NULL));
}
static sl_status csr_create_dense(things *t, void **left) {
	sl_dense view = sl_dense_view(dense_data, SL_F32, SIDE, SIDE);
	MAKES(sl_csr, sl_csr_destroy, sl_csr_create_dense(&made, t->context, &view, 0.3, NULL));
}
static sl_status csr_create_top_k(things *t, void **left) {
	sl_dense view = sl_dense_view(dense_data, SL_F32, SIDE, SIDE);
	MAKES(sl_csr, sl_csr_destroy, sl_csr_create_top_k(&made, t->context, &view, 20, NULL));
}
static sl_status csr_create_pattern(things *t, void **left) {
	MAKES(sl_csr, sl_csr_destroy, sl_csr_create_pattern(&made, t->context, t->pattern, SL_F64));
}
static sl_status csr_wrap(things *t, void **left) {
	MAKES(sl_csr, sl_csr_destroy,
		  sl_csr_wrap(&made, t->context, t->pattern, sl_csr_values(t->csr), SL_F32, NULL, NULL));
}
static sl_status csr_convert(things *t, void **left) {
	MAKES(sl_csr, sl_csr_destroy, sl_csr_convert(&made, t->context, t->csr, SL_BF16));
}
static sl_status csr_transpose(things *t, void **left) {
	MAKES(sl_csr, sl_csr_destroy, sl_csr_transpose(&made, t->context, t->csr));
}
static sl_status plan_spmm(things *t, void **left) {
	sl_dense b = sl_dense_view(dense_data, SL_F32, SIDE, BATCH), c = b;
	MAKES(sl_plan, sl_plan_destroy, sl_plan_spmm(&made, t->context, SL_TRANSPOSE, t->csr, &b, &c, NULL));
}
static sl_status plan_sddmm(things *t, void **left) {
	sl_dense a = sl_dense_view(dense_data, SL_F32, SIDE, BATCH), b = sl_dense_view(dense_data, SL_F32, BATCH, SIDE);
	MAKES(sl_plan, sl_plan_destroy, sl_plan_sddmm(&made, t->context, &a, &b, t->csr));
}
/* Ops in a context of their own, whose workspace is still empty. */
static sl_status ops(things *t, void **left) {
	sl_context *context = NULL;
	static float out[SIDE * BATCH];
	sl_dense b = sl_dense_transposed(sl_dense_view(dense_data, SL_F32, BATCH, SIDE)),
			 c = sl_dense_view(out, SL_F32, SIDE, BATCH);
	c = sl_dense_transposed(sl_dense_view(out, SL_F32, BATCH, SIDE));
	*left = NULL;
	sl_status status = open_context(&context);
	if (status == SL_OK)
		status = sl_spmm(context, SL_TRANSPOSE, 1, t->csr, &b, 0, &c, NULL);
	sl_dense d = sl_dense_view(out, SL_F32, BATCH, SIDE);
	if (status == SL_OK)
		status = sl_sddmm(context, 1, &b, &d, 0, t->csr);
	sl_dense e = sl_dense_view(dense_data, SL_F32, SIDE, SIDE);
	if (status == SL_OK)
		status = sl_gemm(context, 1, &e, &b, 0, &c, NULL);
	sl_context_destroy(context);
	return status;
}
static sl_status linear_create(things *t, void **left) {
	MAKES(sl_layer, sl_layer_destroy, make_layer(t->context, &made, 0.3));
}
static sl_status linear_create_dense(things *t, void **left) {
	MAKES(sl_layer, sl_layer_destroy, make_layer(t->context, &made, 1));
}
static sl_status layer_prepare(things *t, void **left) {
	sl_layer *layer;
	*left = NULL;
	SL_TRY(make_layer(t->context, &layer, 0.3));
	sl_status status = sl_layer_prepare(t->context, layer, BATCH, SL_MODE_TRAINING);
	sl_layer_destroy(layer);
	return status;
}
static sl_status saved_create(things *t, void **left) {
	MAKES(sl_saved, sl_saved_destroy, sl_saved_create(&made, t->context, t->layer, BATCH));
}
/* Unprepared, so that each call makes what it needs. */
static sl_status layer_forward_backward(things *t, void **left) {
	sl_layer *layer;
	sl_saved *saved = NULL;
	static float out[SIDE * BATCH], back[SIDE * BATCH];
	sl_dense x = sl_dense_view(dense_data, SL_F32, BATCH, SIDE), y = sl_dense_view(out, SL_F32, BATCH, SIDE),
			 dx = sl_dense_view(back, SL_F32, BATCH, SIDE);
	*left = NULL;
	SL_TRY(make_layer(t->context, &layer, 0.3));
	sl_status status = sl_saved_create(&saved, t->context, layer, BATCH);
	if (status == SL_OK)
		status = sl_layer_forward(t->context, layer, &x, &y, saved);
	if (status == SL_OK)
		status = sl_layer_backward(t->context, layer, saved, &y, &dx, SL_ACCUMULATE);
	sl_saved_destroy(saved);
	sl_layer_destroy(layer);
	return status;
}
static sl_status make_function(sl_context *context, sl_pattern *pattern, sl_function **function) {
	sl_function_options o;
	SL_OPTIONS_INIT(o);
	o.pattern = pattern;
	o.activation = SL_RELU;
	return sl_function_create(function, context, &o);
}
static sl_status function_create(things *t, void **left) {
	MAKES(sl_function, sl_function_destroy, make_function(t->context, t->pattern, &made));
}
static sl_status function_forward_backward(things *t, void **left) {
	static float out[SIDE * BATCH], back[SIDE * BATCH], gradient[SIDE * SIDE];
	sl_dense x = sl_dense_view(dense_data, SL_F32, BATCH, SIDE), y = sl_dense_view(out, SL_F32, BATCH, SIDE),
			 dx = sl_dense_view(back, SL_F32, BATCH, SIDE);
	sl_function *function;
	*left = NULL;
	SL_TRY(make_function(t->context, t->pattern, &function));
	sl_status status = sl_function_forward(t->context, function, dense_data, NULL, &x, &y, NULL);
	sl_function_gradients g;
	SL_OPTIONS_INIT(g);
	g.values = dense_data;
	g.X = &x;
	g.Y = g.dY = &y;
	g.dX = &dx;
	g.value_gradient = gradient;
	if (status == SL_OK)
		status = sl_function_backward(t->context, function, &g);
	sl_function_destroy(function);
	return status;
}
static sl_status function_sparse(things *t, void **left) {
	static int64_t sparse_rows[] = {0, 4, 2}, sparse_cols[] = {3, 1, 11};
	static float out[SIDE * BATCH], gradient[SIDE * SIDE], ones[] = {1, 1, 1};
	sl_sparse x = {.format = SL_SPARSE_COO,
				   .rows = BATCH,
				   .cols = SIDE,
				   .nnz = 3,
				   .row_indices = sparse_rows,
				   .col_indices = sparse_cols,
				   .index_dtype = SL_I64,
				   .values = ones,
				   .dtype = SL_F32};
	sl_dense y = sl_dense_view(out, SL_F32, BATCH, SIDE);
	sl_function *function;
	*left = NULL;
	SL_TRY(make_function(t->context, t->pattern, &function));
	sl_status status = sl_function_forward_sparse(t->context, function, dense_data, NULL, &x, &y);
	sl_function_gradients g;
	SL_OPTIONS_INIT(g);
	g.sparse_X = &x;
	g.Y = g.dY = &y;
	g.value_gradient = gradient;
	if (status == SL_OK)
		status = sl_function_backward(t->context, function, &g);
	sl_function_destroy(function);
	return status;
}
/* Sparse inputs that need room for another form, gradients of two batches, and a step. */
static sl_status train_sparse(things *t, void **left) {
	static int64_t sparse_rows[] = {0, 4, 2, 0, 7}, sparse_cols[] = {3, 1, 11, 5, 3};
	static float weights[] = {1, -2, 0.5f, 3, 1};
	sl_sparse x = {.format = SL_SPARSE_COO,
				   .rows = BATCH,
				   .cols = SIDE,
				   .nnz = 5,
				   .row_indices = sparse_rows,
				   .col_indices = sparse_cols,
				   .index_dtype = SL_I64,
				   .values = weights,
				   .dtype = SL_F32};
	sl_model *model = NULL;
	sl_layer *layer = NULL;
	sl_optimizer *optimizer = NULL;
	sl_loss_result result;
	sl_linear_options o;
	SL_OPTIONS_INIT(o);
	o.in_features = o.out_features = SIDE;
	o.density = 0.4;
	o.bias = o.sparse_inputs = true;
	o.activation = SL_GELU;
	*left = NULL;
	SL_TRY(sl_model_create(&model, t->context));
	sl_status status = sl_linear_create(&layer, t->context, &o);
	if (status == SL_OK && (status = sl_model_add(t->context, model, layer)) != SL_OK)
		sl_layer_destroy(layer);
	if (status == SL_OK)
		status = make_optimizer(t->context, model, &optimizer);
	sl_targets targets = {.labels = label_data};
	for (int i = 0; i < 2 && status == SL_OK; i++) {
		sparse_cols[0] = 6 + i; /* another column */
		status = sl_model_train_batch_sparse(t->context, model, SL_SOFTMAX_CROSS_ENTROPY, &x, &targets,
											 i ? SL_ACCUMULATE : SL_OVERWRITE, &result);
	}
	if (status == SL_OK)
		status = sl_optimizer_step(t->context, optimizer);
	sl_samples samples;
	SL_OPTIONS_INIT(samples);
	sl_sparse rows = sl_sparse_from_csr(t->csr);
	samples.sparse_inputs = &rows;
	samples.labels = label_data;
	if (status == SL_OK)
		status = sl_model_fit(t->context, model, optimizer, &samples, NULL);
	sl_model_destroy(model);
	sl_optimizer_destroy(optimizer);
	return status;
}
/* On patterns of their own, whose transposes are not there yet. */
static sl_status spgemm(things *t, void **left) {
	sl_csr *a = NULL, *c = NULL, *da = NULL;
	static float out[SIDE * SIDE];
	sl_dense view = sl_dense_view(dense_data, SL_F32, SIDE, SIDE);
	sl_dense turned = sl_dense_transposed(sl_dense_view(out, SL_F32, SIDE, SIDE));
	*left = NULL;
	sl_status status = sl_csr_create_dense(&a, t->context, &view, 0.3, NULL);
	if (status == SL_OK)
		status = sl_spgemm(&c, t->context, 1, a, t->csr);
	if (status == SL_OK)
		status = sl_csr_create_pattern(&da, t->context, sl_csr_pattern(a), SL_F32);
	if (status == SL_OK)
		status = sl_spgemm_backward(t->context, 1, t->csr, a, c, 0, NULL, da);
	if (status == SL_OK)
		status = sl_spgemm_dense(t->context, 1, a, t->csr, 0, &turned);
	sl_csr_destroy(a);
	sl_csr_destroy(c);
	sl_csr_destroy(da);
	return status;
}
static sl_status model_create(things *t, void **left) {
	MAKES(sl_model, sl_model_destroy, make_model(t->context, &made));
}
static sl_status optimizer_create(things *t, void **left) {
	MAKES(sl_optimizer, sl_optimizer_destroy, make_optimizer(t->context, t->model, &made));
}
static sl_status train(things *t, void **left, bool fit) {
	sl_model *model;
	sl_optimizer *optimizer = NULL;
	sl_dense inputs = sl_dense_view(dense_data, SL_F32, BATCH, SIDE);
	sl_loss_result result;
	sl_fit_options o;
	SL_OPTIONS_INIT(o);
	o.batch = 16;
	o.validation = &t->samples;
	*left = NULL;
	SL_TRY(make_model(t->context, &model));
	sl_status status = make_optimizer(t->context, model, &optimizer);
	if (status == SL_OK && fit)
		status = sl_model_fit(t->context, model, optimizer, &t->samples, &o);
	if (status == SL_OK && !fit)
		status = sl_model_train_batch(t->context, model, SL_SOFTMAX_CROSS_ENTROPY, &inputs,
									  &(sl_targets){.labels = label_data}, SL_OVERWRITE, &result);
	if (status == SL_OK)
		status = sl_optimizer_step(t->context, optimizer);
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	return status;
}
static sl_status model_fit(things *t, void **left) {
	return train(t, left, true);
}
static sl_status model_train_batch(things *t, void **left) {
	return train(t, left, false);
}
static sl_status model_predict(things *t, void **left) {
	sl_model *model;
	static float out[SIDE * 40];
	sl_dense outputs = sl_dense_view(out, SL_F32, 40, SIDE);
	double loss;
	*left = NULL;
	SL_TRY(make_model(t->context, &model));
	sl_status status = sl_model_predict(t->context, model, &t->samples.inputs, &outputs, 7);
	if (status == SL_OK)
		status = sl_model_evaluate(t->context, model, SL_SOFTMAX_CROSS_ENTROPY, &t->samples, 50, &loss, NULL);
	sl_model_destroy(model);
	return status;
}
/* A schedule of one edit, which one step is followed by. A failed edit leaves model and optimizer as they were. */
static sl_status evolve(things *t, void **left, sl_sparse_method method, sl_budget budget) {
	sl_model *model;
	sl_optimizer *optimizer = NULL;
	sl_sparsity_options o;
	sl_dense x = sl_dense_view(dense_data, SL_F32, BATCH, SIDE);
	sl_targets targets = {.labels = label_data};
	sl_loss_result result;
	SL_OPTIONS_INIT(o);
	o.method = method;
	o.budget = budget;
	o.interval = 1;
	o.end = 3;
	o.density = method == SL_SPARSE_GMP ? 0.1 : 0;
	*left = NULL;
	SL_TRY(make_model(t->context, &model));
	sl_status status = make_optimizer(t->context, model, &optimizer);
	if (status == SL_OK)
		status = sl_model_set_sparsity(t->context, model, &o);
	if (status == SL_OK)
		status = sl_model_train_batch(t->context, model, SL_SOFTMAX_CROSS_ENTROPY, &x, &targets, SL_OVERWRITE, &result);
	if (status == SL_OK)
		status = sl_optimizer_step(t->context, optimizer);
	if (status == SL_OK) {
		sl_layer_info before, after;
		SL_OPTIONS_INIT(before);
		SL_OPTIONS_INIT(after);
		CHECK_OK(t->context, sl_layer_get_info(t->context, sl_model_layer(model, 0), &before));
		status = sl_model_sparsity_step(t->context, model, optimizer, NULL);
		if (status != SL_OK) {
			char kept[512];
			snprintf(kept, sizeof kept, "%s", sl_context_message(t->context));
			CHECK(*kept);
			CHECK_OK(t->context, sl_layer_get_info(t->context, sl_model_layer(model, 0), &after));
			CHECK(before.nnz == after.nnz);
			CHECK_OK(t->context, sl_optimizer_step(t->context, optimizer));
		}
	}
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	return status;
}
static sl_status evolve_set(things *t, void **left) {
	return evolve(t, left, SL_SPARSE_SET, SL_BUDGET_GLOBAL);
}
static sl_status evolve_rigl(things *t, void **left) {
	return evolve(t, left, SL_SPARSE_RIGL, SL_BUDGET_LAYER);
}
static sl_status evolve_gmp(things *t, void **left) {
	return evolve(t, left, SL_SPARSE_GMP, SL_BUDGET_GLOBAL);
}
static sl_status layer_regrow(things *t, void **left) {
	sl_layer *layer;
	*left = NULL;
	SL_TRY(make_layer(t->context, &layer, 0.3));
	sl_status status = sl_layer_regrow(t->context, layer, NULL, NULL, NULL);
	sl_layer_destroy(layer);
	return status;
}

static sl_status layer_regrow_in_groups(things *t, void **left) {
	sl_layer *layer;
	*left = NULL;
	SL_TRY(make_layer(t->context, &layer, 0.3));
	sl_status status = sl_layer_regrow(t->context, layer, &(sl_regrow_options){SL_REGROW_DEFAULTS, .m = 4}, NULL, NULL);
	sl_layer_destroy(layer);
	return status;
}
/* A failed pruning leaves the layer, its gradient and its optimizer's state as they were. */
static sl_status model_prune_and_compact(things *t, void **left) {
	sl_model *model;
	sl_optimizer *optimizer = NULL;
	sl_compaction done = {.struct_size = sizeof done};
	*left = NULL;
	SL_TRY(make_model(t->context, &model));
	sl_status status = make_optimizer(t->context, model, &optimizer);
	if (status == SL_OK)
		status = sl_model_prune(t->context, model,
								&(sl_prune_options){SL_PRUNE_DEFAULTS, .density = 0.03, .budget = SL_BUDGET_GLOBAL},
								optimizer, NULL);
	if (status == SL_OK)
		status = sl_model_compact(t->context, model, optimizer, &done);
	if (status == SL_OK && !done.weights)
		status = SL_ERR_INTERNAL; /* it had nothing to do */
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	return status;
}
static sl_status layer_prune(things *t, void **left) {
	sl_model *model;
	sl_optimizer *optimizer = NULL;
	*left = NULL;
	SL_TRY(make_model(t->context, &model));
	sl_status status = make_optimizer(t->context, model, &optimizer);
	for (int i = 0; i < 2 && status == SL_OK; i++) {
		sl_layer_info before, after;
		SL_OPTIONS_INIT(before);
		SL_OPTIONS_INIT(after);
		CHECK_OK(t->context, sl_layer_get_info(t->context, sl_model_layer(model, i), &before));
		status = sl_layer_prune(t->context, sl_model_layer(model, i), 0.2, optimizer);
		if (status != SL_OK) {
			char kept[512];
			snprintf(kept, sizeof kept, "%s", sl_context_message(t->context));
			CHECK(*kept);
			CHECK_OK(t->context, sl_layer_get_info(t->context, sl_model_layer(model, i), &after));
			CHECK(before.nnz == after.nnz && before.dense == after.dense);
			CHECK_OK(t->context, sl_optimizer_step(t->context, optimizer));
			sl_optimizer_destroy(optimizer);
			sl_model_destroy(model);
			return status;
		}
	}
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	return status;
}
static sl_status loader_create(things *t, void **left) {
	sl_sparse rows = sl_sparse_from_csr(t->csr);
	const int64_t subset[] = {3, 1};
	const double weights[SIDE] = {1};
	sl_loader_options o = {SL_LOADER_DEFAULTS,   .batch = 2,      .subset = subset,         .subset_count = 2,
						   .labels = label_data, .classes = SIDE, .class_weights = weights, .prefetch = 2};
	MAKES(sl_loader, sl_loader_destroy, sl_loader_create(&made, t->context, &rows, &o));
}
static sl_status split(things *t, void **left) {
	int64_t rows[64], first;
	*left = NULL;
	return sl_split(t->context, 64, label_data, 0.3, 1, rows, &first);
}
/* In a context of its own, whose workspace is still empty. */
static sl_status metrics(things *t, void **left) {
	sl_context *context = NULL;
	sl_dense scores = sl_dense_view(dense_data, SL_F32, SIDE, SIDE);
	sl_sparse rows = sl_sparse_from_csr(t->csr);
	sl_rank_metrics r = {SL_RANK_METRICS_DEFAULTS};
	sl_class_metrics c = {SL_CLASS_METRICS_DEFAULTS};
	double area;
	*left = NULL;
	sl_status status = open_context(&context);
	if (status == SL_OK)
		status = sl_metrics_classes(context, &scores, true, label_data, &c);
	if (status == SL_OK)
		status = sl_metrics_ranking(context, &scores, &rows, &rows, 3, &r);
	if (status == SL_OK)
		status = sl_metrics_auc(context, &scores, &rows, SL_AVERAGE_MACRO, &area);
	sl_context_destroy(context);
	return status;
}
static sl_status fit_early(things *t, void **left) {
	sl_model *model;
	sl_optimizer *optimizer = NULL;
	static const double class_weights[2 * SIDE];
	sl_fit_options o = {SL_FIT_DEFAULTS,           .epochs = 3,   .batch = 16,
						.validation = &t->samples, .patience = 1, .class_weights = class_weights};
	*left = NULL;
	SL_TRY(make_model(t->context, &model));
	sl_status status = make_optimizer(t->context, model, &optimizer);
	if (status == SL_OK)
		status = sl_model_fit(t->context, model, optimizer, &t->samples, &o);
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	return status;
}
static sl_status dense_to_dlpack(things *t, void **left) {
	struct DLManagedTensor *made = NULL;
	sl_dense view = sl_dense_view(dense_data, SL_F32, SIDE, SIDE);
	sl_status status = sl_dense_to_dlpack(t->context, &view, &made);
	*left = status == SL_OK ? NULL : (void *)made;
	if (status == SL_OK)
		free(made); /* what its deleter does */
	return status;
}
static sl_status idx_read(things *t, void **left) {
	sl_idx x;
	SL_OPTIONS_INIT(x);
	sl_status status = sl_idx_read(t->context, path("t10k-labels-idx1-ubyte"), NULL, &x);
	*left = status == SL_OK ? NULL : (void *)x.values;
	sl_idx_free(t->context, &x);
	return status;
}
static sl_status dataset_read(things *t, void **left) {
	MAKES(sl_dataset, sl_dataset_destroy, sl_dataset_read_mnist(&made, t->context, folder, false));
}
#define READS(name)                                                                                                    \
	static sl_status read_##name(things *t, void **left) {                                                             \
		MAKES(sl_csr, sl_csr_destroy, sl_csr_read(&made, t->context, path("m." #name), SL_FORMAT_AUTO, NULL));         \
	}                                                                                                                  \
	static sl_status write_##name(things *t, void **left) {                                                            \
		*left = NULL;                                                                                                  \
		return sl_csr_write(t->context, t->csr, path("m." #name), SL_FORMAT_AUTO);                                     \
	}
READS(npz)
READS(mtx)
READS(smtx)
READS(safetensors)
READS(svm)
static sl_status convert(things *t, const char *name, void **left) {
	char from[128];
	*left = NULL;
	snprintf(from, sizeof from, "%s", path(name));
	return sl_convert_file(t->context, from, path("converted.safetensors"), NULL);
}
static sl_status convert_npz(things *t, void **left) {
	return convert(t, "m.npz", left);
}
static sl_status convert_mtx(things *t, void **left) {
	return convert(t, "m.mtx", left);
}
static sl_status convert_svm(things *t, void **left) {
	return convert(t, "m.svm", left);
}
static sl_status convert_sorted(things *t, void **left) {
	return convert(t, "unsorted.mtx", left);
}
static sl_status svmlight_write(things *t, void **left) {
	*left = NULL;
	return sl_svmlight_write(t->context, t->csr, NULL, t->csr, path("sets.svm"));
}
static sl_status dataset_svmlight(things *t, void **left) {
	MAKES(sl_dataset, sl_dataset_destroy, sl_dataset_read_svmlight(&made, t->context, path("m.svm"), NULL, NULL));
}
static sl_status dataset_svmlight_sets(things *t, void **left) {
	sl_svmlight_options o = {SL_SVMLIGHT_DEFAULTS, .labels = SL_LABELS_SETS};
	MAKES(sl_dataset, sl_dataset_destroy, sl_dataset_read_svmlight(&made, t->context, path("sets.svm"), &o, NULL));
}
static sl_status dataset_svmlight_like(things *t, void **left) {
	sl_dataset *like;
	*left = NULL;
	SL_TRY(sl_dataset_read_svmlight(&like, t->context, path("m.svm"), NULL, NULL));
	sl_svmlight_options o = {SL_SVMLIGHT_DEFAULTS, .like = like};
	sl_dataset *made = NULL;
	sl_status status = sl_dataset_read_svmlight(&made, t->context, path("m.svm"), &o, NULL);
	*left = status == SL_OK ? NULL : (void *)made;
	sl_dataset_destroy(made);
	sl_dataset_destroy(like);
	return status;
}
static sl_status dataset_ratings(things *t, void **left) {
	sl_dataset *like;
	*left = NULL;
	SL_TRY(sl_dataset_read_ratings(&like, t->context, path("u.data"), NULL, NULL));
	sl_ratings_options o = {SL_RATINGS_DEFAULTS, .like = like};
	sl_dataset *made = NULL;
	sl_status status = sl_dataset_read_ratings(&made, t->context, path("u.data"), &o, NULL);
	*left = status == SL_OK ? NULL : (void *)made;
	sl_dataset_destroy(made);
	sl_dataset_destroy(like);
	return status;
}
static sl_status model_save(things *t, void **left) {
	*left = NULL;
	return sl_model_save(t->context, t->model, t->optimizer, NULL, path("model.safetensors"));
}
static sl_status load_with_optimizer(things *t, void **left, const char *name) {
	sl_optimizer *optimizer = NULL;
	sl_model *model = NULL;
	sl_status status = sl_model_load(&model, &optimizer, NULL, t->context, path(name), NULL);
	*left = status == SL_OK ? NULL : model ? (void *)model : (void *)optimizer;
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	return status;
}
static sl_status model_load(things *t, void **left) {
	return load_with_optimizer(t, left, "model.safetensors");
}
static sl_status source_create(things *t, void **left) {
	MAKES(sl_source, sl_source_destroy, sl_source_create_csr(&made, t->context, t->csr));
}
static sl_status source_open(things *t, void **left) {
	MAKES(sl_source, sl_source_destroy, sl_source_open(&made, t->context, path("streamed.safetensors"), NULL));
}
static int64_t no_rows(void *user, int64_t row, int64_t rows, int64_t entries, int32_t *o, int32_t *c, void *v) {
	(void)user, (void)row, (void)rows, (void)entries, (void)o, (void)c, (void)v;
	return 0;
}
static sl_status source_callback(things *t, void **left) {
	MAKES(sl_source, sl_source_destroy,
		  sl_source_create_callback(&made, t->context, SIDE, SIDE, 5, SL_F32, no_rows, NULL));
}
static sl_status stream_products(things *t, void **left) {
	sl_source *source;
	float y[SIDE * 4];
	sl_dense x = sl_dense_view(dense_data, SL_F32, SIDE, 4), Y = sl_dense_view(y, SL_F32, SIDE, 4);
	(void)left;
	SL_TRY(sl_source_create_csr(&source, t->context, t->csr));
	sl_status status = sl_stream_spmm(t->context, SL_NO_TRANSPOSE, 1, source, &x, 0, &Y, NULL, NULL, NULL);
	if (status == SL_OK)
		status = sl_stream_spmm(t->context, SL_TRANSPOSE, 1, source, &x, 0, &Y, NULL, NULL, NULL);
	sl_source_destroy(source);
	return status;
}
static sl_status make_store(things *t, const char *name) {
	sl_source *source;
	SL_TRY(sl_source_create_csr(&source, t->context, t->csr));
	sl_status status = sl_store_create(t->context, name, source, 2);
	sl_source_destroy(source);
	return status;
}
/* A new folder each time: what a failed one left has no header, and is no store. */
static sl_status store_create(things *t, void **left) {
	static int number;
	char name[24];
	(void)left;
	snprintf(name, sizeof name, "store%d", number);
	sl_status status = make_store(t, path(name));
	number += status == SL_OK;
	return status;
}
static sl_status store_open(things *t, void **left) {
	MAKES(sl_store, sl_store_close, sl_store_open(&made, t->context, path("store"), SL_DURABLE_STEP));
}

static sl_status streamed_create(things *t, void **left) {
	MAKES(sl_layer, sl_layer_destroy,
		  sl_linear_create_streamed(
			  &made, t->context,
			  &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = SIDE, .out_features = SIDE, .density = 0.4,
								   .bias = true},
			  &(sl_streamed_options){SL_STREAMED_DEFAULTS, .folder = path("streamed"), .optimizer = SL_ADAM}));
}
/* Create, train a batch, commit. */
static sl_status streamed_model(things *t, sl_model *model, sl_optimizer *optimizer) {
	sl_layer *layer = NULL;
	static const int32_t labels[4] = {0, 1, 2, 0};
	sl_dense x = sl_dense_view(dense_data, SL_F32, 4, SIDE);
	sl_targets targets = {.labels = labels};
	sl_loss_result result;
	SL_TRY(streamed_create(t, (void **)&layer));
	SL_TRY(sl_linear_create_streamed(
		&layer, t->context,
		&(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = SIDE, .out_features = SIDE, .density = 0.4},
		&(sl_streamed_options){SL_STREAMED_DEFAULTS, .folder = path("streamed"), .optimizer = SL_ADAM}));
	sl_status status = sl_model_add(t->context, model, layer);
	if (status != SL_OK)
		sl_layer_destroy(layer);
	if (status == SL_OK)
		status = sl_model_add_to_optimizer(t->context, model, optimizer);
	if (status == SL_OK)
		status = sl_model_train_batch(t->context, model, SL_SOFTMAX_CROSS_ENTROPY, &x, &targets, SL_OVERWRITE, &result);
	if (status == SL_OK)
		status = sl_optimizer_step(t->context, optimizer);
	return status == SL_OK ? sl_model_commit(t->context, model, optimizer, NULL, path("streamed/model")) : status;
}
static sl_status streamed_train(things *t, void **left) {
	sl_model *model = NULL;
	sl_optimizer *optimizer = NULL;
	(void)left;
	sl_status status = sl_model_create(&model, t->context);
	if (status == SL_OK)
		status = sl_optimizer_create(&optimizer, t->context,
									 &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM});
	if (status == SL_OK)
		status = streamed_model(t, model, optimizer);
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	return status;
}
static sl_status streamed_load(things *t, void **left) {
	return load_with_optimizer(t, left, "streamed/model");
}
static sl_status load_streamed(things *t, void **left) {
	MAKES(sl_model, sl_model_destroy,
		  sl_model_load_streamed(&made, NULL, t->context, path("model.safetensors"), 0, NULL, NULL));
}

static sl_status context_create(things *t, void **left) {
	(void)t;
	MAKES(sl_context, sl_context_destroy, open_context(&made));
}

static void write_idx(const char *name, const unsigned char *header, size_t size, int count) {
	FILE *f = fopen(path(name), "wb");
	CHECK(f && fwrite(header, 1, size, f) == size);
	for (int i = 0; i < count; i++)
		fputc(i % 7, f);
	CHECK(fclose(f) == 0);
}

static void make_files(things *t) {
	static const unsigned char images[] = {0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0, 0, 2};
	static const unsigned char labels[] = {0, 0, 8, 1, 0, 0, 0, 5};
	void *left;
	strcpy(folder, "/tmp/sparselayer-fault-XXXXXX");
	CHECK(mkdtemp(folder));
	write_idx("t10k-images-idx3-ubyte", images, sizeof images, 20);
	write_idx("t10k-labels-idx1-ubyte", labels, sizeof labels, 5);
	FILE *f = fopen(path("u.data"), "wb");
	CHECK(f && fputs("1\t2\t3\n7\t2\t4\n1\t9\t5\n", f) >= 0 && !fclose(f));
	f = fopen(path("unsorted.mtx"), "wb");
	CHECK(f && fputs("%%MatrixMarket matrix coordinate real general\n3 3 2\n2 2 1\n1 1 1\n", f) >= 0 && !fclose(f));
	static const call writers[] = {write_npz, write_mtx,      write_smtx, write_safetensors,
								   write_svm, svmlight_write, model_save};
	for (size_t i = 0; i < sizeof writers / sizeof *writers; i++)
		CHECK_OK(t->context, writers[i](t, &left));
	CHECK_OK(t->context, sl_csr_write(t->context, t->csr, path("streamed.safetensors"), SL_FORMAT_SAFETENSORS));
	CHECK_OK(t->context, make_store(t, path("store")));
	CHECK(!mkdir(path("streamed"), 0777));
}

static void remove_files(void) {
	char command[128];
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	if (system(command))
		fprintf(stderr, "%s was left behind\n", folder);
}

/* Fail allocation 0, 1, 2 ... of a call. Returns how many it makes. */
static long try_all(things *t, const char *name, call run, bool of_malloc, bool exact) {
	void *left = NULL;
	CHECK_OK(t->context, run(t, &left));
	for (long n = 0; n < 100000; n++) {
		/* Streaming gives the workspace of calls before it back. */
		if (!exact)
			CHECK_OK(t->context, sl_context_trim(t->context));
		long before = fault.live;
		sl_memory_usage then, now;
		SL_OPTIONS_INIT(then);
		SL_OPTIONS_INIT(now);
		sl_context_memory(t->context, &then);
		fault.failed = false;
		fault.of_malloc = of_malloc;
		fault.until = n;
#if OWN_MALLOC
		watched = true;
#endif
		sl_status status = run(t, &left);
#if OWN_MALLOC
		watched = false;
#endif
		fault.until = -1;
		if (!exact)
			CHECK_OK(t->context, sl_context_trim(t->context));
		sl_context_memory(t->context, &now);
		if (left)
			sl_test_fail(__FILE__, __LINE__, "%s, allocation %ld: a result that is not null", name, n);
		/* The first run, without faults, has grown the context's workspace. */
		if (fault.live != before || now.current != then.current)
			sl_test_fail(__FILE__, __LINE__, "%s, allocation %ld: %ld bytes leaked", name, n, fault.live - before);
		if (!fault.failed)
			return n;
		if (exact && (status != SL_ERR_MEMORY ||
					  (run != context_create && run != ops && run != metrics && !sl_context_message(t->context)[0])))
			sl_test_fail(__FILE__, __LINE__, "%s, allocation %ld: %s: %s", name, n, sl_status_name(status),
						 sl_context_message(t->context));
	}
	sl_test_fail(__FILE__, __LINE__, "%s never ends allocating", name);
}

/* Files by share, each with a communicator of its own. */
typedef sl_status (*share_reader)(things *t, sl_share *share, void **made);
static sl_status by_share(things *t, void **left, share_reader read, void (*destroy)(void *)) {
	sl_comm *comm = NULL;
	void *made = NULL;
	*left = NULL;
	SL_TRY(sl_comm_create(&comm, t->context, &(sl_comm_options){SL_COMM_DEFAULTS, .kind = SL_COMM_SELF}));
	sl_share share = {SL_SHARE_DEFAULTS, .comm = comm, .parts = 3};
	sl_status status = read(t, &share, &made);
	*left = status == SL_OK ? NULL : made;
	destroy(made);
	sl_comm_destroy(comm);
	return status;
}
static void drop_set(void *set) {
	sl_dataset_destroy(set);
}
static void drop_csr(void *matrix) {
	sl_csr_destroy(matrix);
}
#define BY_SHARE(name, destroy, ...)                                                                                   \
	static sl_status name##_shared(things *t, sl_share *share, void **made) {                                          \
		return __VA_ARGS__;                                                                                            \
	}                                                                                                                  \
	static sl_status share_##name(things *t, void **left) {                                                            \
		return by_share(t, left, name##_shared, destroy);                                                              \
	}
BY_SHARE(svmlight, drop_set,
		 sl_dataset_read_svmlight_share((sl_dataset **)made, t->context, path("m.svm"), NULL, NULL, share))
BY_SHARE(sets, drop_set,
		 sl_dataset_read_svmlight_share((sl_dataset **)made, t->context, path("sets.svm"),
										&(sl_svmlight_options){SL_SVMLIGHT_DEFAULTS, .labels = SL_LABELS_SETS}, NULL,
										share))
BY_SHARE(ratings, drop_set,
		 sl_dataset_read_ratings_share((sl_dataset **)made, t->context, path("u.data"), NULL, NULL, share))
BY_SHARE(pictures, drop_set, sl_dataset_read_mnist_share((sl_dataset **)made, t->context, folder, false, share))
BY_SHARE(safetensors, drop_csr,
		 sl_csr_read_share((sl_csr **)made, t->context, path("m.safetensors"), SL_FORMAT_AUTO, NULL, share))
BY_SHARE(npz, drop_csr, sl_csr_read_share((sl_csr **)made, t->context, path("m.npz"), SL_FORMAT_AUTO, NULL, share))
BY_SHARE(idx, drop_csr,
		 sl_csr_read_share((sl_csr **)made, t->context, path("t10k-images-idx3-ubyte"), SL_FORMAT_AUTO, NULL, share))

/* Ranks on sparse inputs: sums of rows that are added to, and samples by share. */
static sl_status parallel_sparse(things *t, void **left) {
	sl_comm *comm = NULL;
	sl_model *model = NULL;
	sl_layer *layer = NULL;
	sl_optimizer *optimizer = NULL;
	sl_parallel *parallel = NULL;
	sl_sparse rows = sl_sparse_from_csr(t->csr);
	sl_linear_options o = {SL_LINEAR_DEFAULTS, .in_features = SIDE, .out_features = SIDE,
						   .density = 0.4,     .bias = true,        .sparse_inputs = true};
	*left = NULL;
	SL_TRY(sl_comm_create(&comm, t->context, &(sl_comm_options){SL_COMM_DEFAULTS, .kind = SL_COMM_SELF}));
	sl_share share = {SL_SHARE_DEFAULTS, .comm = comm, .parts = 3, .total = SIDE, .count = SIDE};
	sl_samples samples = {SL_SAMPLES_DEFAULTS, .sparse_inputs = &rows, .labels = label_data, .share = &share};
	sl_status status = sl_model_create(&model, t->context);
	if (status == SL_OK)
		status = sl_linear_create(&layer, t->context, &o);
	if (status == SL_OK && (status = sl_model_add(t->context, model, layer)) != SL_OK)
		sl_layer_destroy(layer);
	if (status == SL_OK)
		status = make_optimizer(t->context, model, &optimizer);
	if (status == SL_OK)
		status = sl_parallel_create(&parallel, t->context, comm, model, optimizer,
									&(sl_parallel_options){SL_PARALLEL_DEFAULTS, .shards = 3});
	if (status == SL_OK)
		status = sl_model_fit(t->context, model, optimizer, &samples,
							  &(sl_fit_options){SL_FIT_DEFAULTS, .epochs = 1, .batch = 3, .accumulate = 2,
												.validation = &samples, .parallel = parallel});
	sl_parallel_destroy(parallel);
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	sl_comm_destroy(comm);
	return status;
}
static sl_status share_loader(things *t, void **left) {
	sl_comm *comm = NULL;
	sl_loader *made = NULL;
	sl_sparse rows = sl_sparse_from_csr(t->csr);
	*left = NULL;
	SL_TRY(sl_comm_create(&comm, t->context, &(sl_comm_options){SL_COMM_DEFAULTS, .kind = SL_COMM_SELF}));
	sl_share share = {SL_SHARE_DEFAULTS, .comm = comm, .parts = 3, .total = SIDE, .count = SIDE};
	sl_status status = sl_loader_create(&made, t->context, &rows,
										&(sl_loader_options){SL_LOADER_DEFAULTS, .batch = 3, .share = &share});
	*left = status == SL_OK ? NULL : (void *)made;
	sl_loader_destroy(made);
	sl_comm_destroy(comm);
	return status;
}

/* A model whose layers are divided, with moments and a schedule, to its files and back. */
static sl_status make_divided(things *t, sl_comm *comm, sl_model **model, sl_optimizer **optimizer) {
	SL_TRY(sl_model_create(model, t->context));
	SL_TRY(sl_model_add_divided(t->context, *model, comm,
								&(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = SIDE, .out_features = SIDE,
													 .density = 0.4, .bias = true},
								3));
	SL_TRY(sl_model_set_sparsity(
		t->context, *model,
		&(sl_sparsity_options){
			.struct_size = sizeof(sl_sparsity_options), .method = SL_SPARSE_SET, .interval = 5, .end = 100}));
	return make_optimizer(t->context, *model, optimizer);
}
static sl_status divided_save(things *t, void **left) {
	sl_comm *comm = NULL;
	sl_model *model = NULL;
	sl_optimizer *optimizer = NULL;
	*left = NULL;
	SL_TRY(sl_comm_create(&comm, t->context, &(sl_comm_options){SL_COMM_DEFAULTS, .kind = SL_COMM_SELF}));
	sl_status status = make_divided(t, comm, &model, &optimizer);
	if (status == SL_OK)
		status = sl_model_save_divided(t->context, model, optimizer, NULL, path("divided"));
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	sl_comm_destroy(comm);
	return status;
}
static sl_status divided_load(things *t, void **left) {
	sl_comm *comm = NULL;
	sl_model *model = NULL;
	sl_optimizer *optimizer = NULL;
	*left = NULL;
	SL_TRY(sl_comm_create(&comm, t->context, &(sl_comm_options){SL_COMM_DEFAULTS, .kind = SL_COMM_SELF}));
	sl_status status = sl_model_load_divided(&model, &optimizer, NULL, t->context, comm, path("divided"), NULL);
	*left = status == SL_OK ? NULL : (void *)model;
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	sl_comm_destroy(comm);
	return status;
}

#define CALL(name)                                                                                                     \
	{ #name, name }
static const struct {
	const char *name;
	call run;
} calls[] = {CALL(context_create),
			 CALL(source_create),
			 CALL(source_open),
			 CALL(source_callback),
			 CALL(store_create),
			 CALL(store_open),
			 CALL(pattern_create),
			 CALL(pattern_wrap),
			 CALL(pattern_wrap_device),
			 CALL(pattern_random),
			 CALL(pattern_n_m),
			 CALL(pattern_full),
			 CALL(pattern_transpose),
			 CALL(csr_create),
			 CALL(csr_create_csc),
			 CALL(csr_create_coo),
			 CALL(csr_create_dense),
			 CALL(csr_create_top_k),
			 CALL(csr_create_pattern),
			 CALL(comm_create),
			 CALL(parallel_create),
			 CALL(divided_layer),
			 CALL(csr_wrap),
			 CALL(csr_convert),
			 CALL(csr_transpose),
			 CALL(plan_spmm),
			 CALL(plan_sddmm),
			 CALL(ops),
			 CALL(linear_create),
			 CALL(linear_create_dense),
			 CALL(layer_prepare),
			 CALL(saved_create),
			 CALL(layer_forward_backward),
			 CALL(function_create),
			 CALL(function_forward_backward),
			 CALL(function_sparse),
			 CALL(model_create),
			 CALL(optimizer_create),
			 CALL(model_train_batch),
			 CALL(train_sparse),
			 CALL(spgemm),
			 CALL(model_fit),
			 CALL(model_predict),
			 CALL(layer_prune),
			 CALL(model_prune_and_compact),
			 CALL(fit_early),
			 CALL(loader_create),
			 CALL(split),
			 CALL(metrics),
			 CALL(layer_regrow),
			 CALL(layer_regrow_in_groups),
			 CALL(evolve_set),
			 CALL(evolve_rigl),
			 CALL(evolve_gmp),
			 CALL(idx_read),
			 CALL(dataset_read),
			 CALL(read_npz),
			 CALL(read_mtx),
			 CALL(read_smtx),
			 CALL(read_safetensors),
			 CALL(read_svm),
			 CALL(write_svm),
			 CALL(svmlight_write),
			 CALL(convert_npz),
			 CALL(convert_mtx),
			 CALL(convert_svm),
			 CALL(convert_sorted),
			 CALL(dataset_svmlight),
			 CALL(dataset_svmlight_sets),
			 CALL(dataset_svmlight_like),
			 CALL(dataset_ratings),
			 CALL(write_npz),
			 CALL(write_mtx),
			 CALL(write_smtx),
			 CALL(write_safetensors),
			 CALL(model_save),
			 CALL(model_load),
			 CALL(load_streamed),
			 CALL(share_svmlight),
			 CALL(share_sets),
			 CALL(share_ratings),
			 CALL(share_pictures),
			 CALL(share_safetensors),
			 CALL(share_npz),
			 CALL(share_idx),
			 CALL(share_loader),
			 CALL(parallel_sparse),
			 CALL(divided_save),
			 CALL(divided_load)};

SL_TEST(fault, each_allocation_of_every_creating_call) {
	things t;
	make_things(&t);
	make_files(&t);
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		CHECK(try_all(&t, calls[i].name, calls[i].run, false, true) > 0);
	/* Streaming goes on with smaller chunks where it cannot have what it wanted. */
	CHECK(try_all(&t, "stream_products", stream_products, false, false) > 0);
	CHECK(try_all(&t, "streamed_create", streamed_create, false, false) > 0);
	CHECK(try_all(&t, "streamed_train", streamed_train, false, false) > 0);
	CHECK(try_all(&t, "streamed_load", streamed_load, false, true) > 0);
	drop_things(&t);
	CHECK_EQ(fault.live, 0);
	remove_files();
}

/* What may run in another way is planned so, or the status is of memory. The workspace may be another then, so each
 * try has a context of its own. */
SL_TEST(fault, plans_with_a_choice) {
	static const call own[] = {plan_spmm, plan_sddmm, ops, layer_prepare, layer_forward_backward, model_train_batch};
	static const sl_plan_mode modes[] = {SL_PLAN_DENSE, SL_PLAN_MEASURE, SL_PLAN_AUTO};
	long survived = 0;
	for (int m = 0; m < 3; m++)
		for (size_t i = 0; i < sizeof own / sizeof *own; i++)
			for (long n = 0, failed = 1; failed; n++, survived++) {
				things t;
				void *left = NULL;
				mode = modes[m];
				make_things(&t);
				fault.failed = fault.of_malloc = false;
				fault.until = n;
				sl_status status = own[i](&t, &left);
				fault.until = -1;
				failed = fault.failed;
				mode = SL_PLAN_SPARSE;
				CHECK(!left && (status == SL_OK || (failed && status == SL_ERR_MEMORY)));
				drop_things(&t);
				CHECK_EQ(fault.live, 0);
			}
	CHECK(survived > 100);
}

static sl_status calibrate(things *t, void **left) {
	(void)left;
	sl_context *context;
	sl_context_options o;
	SL_OPTIONS_INIT(o);
	o.device = SL_DEVICE_CPU;
	o.threads = 1;
	o.calibration = "/dev/null/nowhere";
	o.allocator = (sl_allocator){NULL, allocate, give_back};
	(void)t;
	SL_TRY(sl_context_create(&context, &o));
	sl_status status = sl_calibrate(context);
	sl_context_destroy(context);
	return status;
}

/* The first allocations; later ones are the same again for other products. */
SL_TEST(fault, calibration) {
	things t;
	void *left = NULL;
	make_things(&t);
	for (long n = 0; n < 24; n++) {
		fault.failed = false;
		fault.of_malloc = false;
		fault.until = n;
		long before = fault.live;
		sl_status status = calibrate(&t, &left);
		fault.until = -1;
		CHECK(fault.failed && status == SL_ERR_MEMORY && fault.live == before);
	}
	drop_things(&t);
}

/* jansson, libzip, zlib, pthreadpool and the C library. A failure may be survived (a missing locale); the
 * status is of memory, of the file, or none. */
SL_TEST(fault, malloc_of_libraries_underneath) {
	if (!OWN_MALLOC)
		sl_test_skip("the sanitizer has malloc for itself");
	/* Not read_safetensors and model_load: jansson 2.14 asserts when malloc fails in its lexer
	 * (docs/decisions/files-jansson-libzip-zlib.md). */
	static const call own[] = {context_create, dense_to_dlpack, idx_read,   read_npz,          read_mtx,  read_smtx,
							   write_npz,      write_mtx,       write_smtx, write_safetensors, model_save};
	things t;
	make_things(&t);
	make_files(&t);
	long all = 0;
	for (size_t i = 0; i < sizeof own / sizeof *own; i++)
		all += try_all(&t, "a call over libraries", own[i], true, false);
	CHECK(all > 500);
	/* What was written last is whole. */
	void *left;
	CHECK_OK(t.context, model_load(&t, &left));
	CHECK_OK(t.context, read_npz(&t, &left));
	drop_things(&t);
	CHECK_EQ(fault.live, 0);
	remove_files();
}
