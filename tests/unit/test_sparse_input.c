/* SPDX-License-Identifier: Apache-2.0 */
/* Layers and models of sparse inputs: against references in double, finite differences, and each other. */
#include "support/activations.h"
#include "support/check.h"

/* Of one thread, for tests of many small calls. */
static sl_context *one_thread(void) {
	sl_context *context = NULL;
	CHECK_EQ(sl_context_create(&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .seed = 1,
															   .threads = 1}),
			 SL_OK);
	return context;
}

enum { IN = 37, OUT = 21, BATCH = 11, MOST = 400 };

/* One matrix in every form. Entries of a row come in any order and some come twice. */
typedef struct entries {
	int64_t nnz, rows, cols;
	int64_t offsets[BATCH + 1], starts[BATCH], ends[BATCH], col_offsets[IN + 1];
	int64_t row64[MOST], col64[MOST], csc_row[MOST];
	int32_t row32[MOST], col32[MOST], offsets32[BATCH + 1];
	double value[MOST], csc_value[MOST], coo_value[MOST];
	float narrow[MOST], csc_narrow[MOST], coo_narrow[MOST];
	int64_t coo_row[MOST], coo_col[MOST];
	double dense[BATCH][IN];
} entries;

static uint64_t next(uint64_t *state) {
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

/* Row 3 is empty, column 5 is in every other row, entry 0 of each row comes again at its end. */
static void make_entries(entries *e, uint64_t seed, bool ones) {
	uint64_t state = seed * 77 + 5;
	memset(e, 0, sizeof *e);
	e->rows = BATCH;
	e->cols = IN;
	for (int r = 0; r < BATCH; r++) {
		int count = r == 3 ? 0 : 1 + (int)(next(&state) % 9), first = (int)e->nnz;
		for (int i = 0; i < count + (count > 0); i++) {
			int64_t k = e->nnz++;
			e->col64[k] = i == count ? e->col64[first] : i == 1 ? 5 : (int64_t)(next(&state) % IN);
			e->row64[k] = r;
			e->value[k] = ones ? 1 : (double)(float)((double)next(&state) * 0x1p-30 - 1);
			e->dense[r][e->col64[k]] += e->value[k];
		}
		e->offsets[r + 1] = e->nnz;
	}
	for (int64_t k = 0; k < e->nnz; k++) {
		e->row32[k] = (int32_t)e->row64[k];
		e->col32[k] = (int32_t)e->col64[k];
		e->narrow[k] = (float)e->value[k];
		e->col_offsets[e->col64[k] + 1]++;
		/* COO in an order of its own. */
		int64_t from = (k * (e->nnz % 7 ? 7 : e->nnz % 11 ? 11 : 13) + 3) % e->nnz;
		e->coo_row[k] = e->row64[from];
		e->coo_col[k] = e->col64[from];
		e->coo_value[k] = e->value[from];
		e->coo_narrow[k] = (float)e->value[from];
	}
	CHECK(e->nnz % (7 * 11 * 13) != 0 && e->nnz <= MOST);
	for (int c = 0; c < IN; c++)
		e->col_offsets[c + 1] += e->col_offsets[c];
	int64_t at[IN];
	memcpy(at, e->col_offsets, sizeof at);
	for (int64_t k = 0; k < e->nnz; k++) {
		int64_t to = at[e->col64[k]]++;
		e->csc_row[to] = e->row64[k];
		e->csc_value[to] = e->value[k];
		e->csc_narrow[to] = (float)e->value[k];
	}
	for (int r = 0; r <= BATCH; r++) {
		e->offsets32[r] = (int32_t)e->offsets[r];
		if (r < BATCH) {
			e->starts[r] = e->offsets[r];
			e->ends[r] = e->offsets[r + 1];
		}
	}
}

enum { CSR, CSR_NARROW_OFFSETS, CSR_WIDE, CSR_ENDS, CSC, COO, FORMS };

static sl_sparse form(const entries *e, int which, sl_dtype dtype, bool ones) {
	sl_sparse v = {.rows = BATCH, .cols = IN, .nnz = e->nnz, .offset_dtype = SL_I64, .index_dtype = SL_I64};
	v.values = ones ? NULL : dtype == SL_F64 ? (const void *)e->value : e->narrow;
	v.dtype = dtype;
	v.offsets = e->offsets;
	v.col_indices = e->col32;
	v.index_dtype = SL_I32;
	if (which == CSR_NARROW_OFFSETS) {
		v.offsets = e->offsets32;
		v.offset_dtype = SL_I32;
	} else if (which == CSR_WIDE) {
		v.col_indices = e->col64;
		v.index_dtype = SL_I64;
	} else if (which == CSR_ENDS) {
		v.offsets = e->starts;
		v.ends = e->ends;
	} else if (which == CSC) {
		v.format = SL_SPARSE_CSC;
		v.offsets = e->col_offsets;
		v.col_indices = NULL;
		v.row_indices = e->csc_row;
		v.index_dtype = SL_I64;
		v.values = ones ? NULL : dtype == SL_F64 ? (const void *)e->csc_value : e->csc_narrow;
	} else if (which == COO) {
		v.format = SL_SPARSE_COO;
		v.offsets = NULL;
		v.col_indices = e->coo_col;
		v.row_indices = e->coo_row;
		v.index_dtype = SL_I64;
		v.values = ones ? NULL : dtype == SL_F64 ? (const void *)e->coo_value : e->coo_narrow;
	}
	return v;
}

static sl_layer *make_layer(sl_context *context, sl_activation activation, double density, bool bias, sl_dtype dtype) {
	sl_layer *layer = NULL;
	sl_linear_options o = {SL_LINEAR_DEFAULTS,       .in_features = IN,
						   .out_features = OUT,      .dense = density == 1,
						   .density = density,       .bias = bias,
						   .activation = activation, .activation_parameter = activation == SL_CLIPPED_RELU ? 0.7 : 0,
						   .dtype = dtype,           .init = SL_INIT_UNIFORM,
						   .init_scale = 0.8,        .sparse_inputs = true};
	CHECK_OK(context, sl_linear_create(&layer, context, &o));
	sl_parameter b = {.struct_size = sizeof b};
	if (bias) {
		CHECK_OK(context, sl_layer_parameter(context, layer, 1, &b));
		sl_test_fill(b.value, dtype, OUT, 77);
	}
	return layer;
}

static sl_parameter parameter_of(sl_context *context, const sl_layer *layer, int index) {
	sl_parameter p = {.struct_size = sizeof p};
	CHECK_OK(context, sl_layer_parameter(context, layer, index, &p));
	return p;
}

static double number(const void *data, sl_dtype dtype, int64_t i) {
	return dtype == SL_F64 ? ((const double *)data)[i] : (double)((const float *)data)[i];
}

/* W [in][out] in double, and where each element is stored (-1: it is not). */
static void dense_weights(sl_context *context, const sl_layer *layer, double w[IN][OUT], int64_t place[IN][OUT]) {
	sl_parameter p = parameter_of(context, layer, 0);
	CHECK(p.transposed && p.rows == IN && p.cols == OUT);
	for (int i = 0; i < IN; i++)
		for (int o = 0; o < OUT; o++) {
			place[i][o] = p.pattern ? -1 : i * OUT + o;
			w[i][o] = p.pattern ? 0 : number(p.value, p.dtype, i * OUT + o);
		}
	if (!p.pattern)
		return;
	sl_pattern_arrays a;
	CHECK_OK(context, sl_pattern_get(context, p.pattern, &a));
	CHECK(a.rows == IN && a.cols == OUT && a.offset_dtype == SL_I32);
	for (int i = 0; i < IN; i++)
		for (int32_t k = ((const int32_t *)a.row_offsets)[i]; k < ((const int32_t *)a.row_offsets)[i + 1]; k++) {
			place[i][a.col_indices[k]] = k;
			w[i][a.col_indices[k]] = number(p.value, p.dtype, k);
		}
}

/* Each element within c * eps * sum |x||w| of the reference. */
static void check_forward(sl_activation activation, double density, bool bias, sl_dtype dtype, bool ones) {
	sl_context *context = sl_test_context();
	entries e;
	make_entries(&e, 3, ones);
	sl_layer *layer = make_layer(context, activation, density, bias, dtype);
	double w[IN][OUT], eps = dtype == SL_F64 ? 0x1p-52 : 0x1p-23;
	int64_t place[IN][OUT];
	dense_weights(context, layer, w, place);
	for (int f = 0; f < FORMS; f++) {
		enum { LD = OUT + 3 };
		double y64[BATCH * LD];
		float y32[BATCH * LD];
		sl_dense Y = sl_dense_view(dtype == SL_F64 ? (void *)y64 : y32, dtype, BATCH, OUT);
		Y.ld = LD;
		if (f == CSR_WIDE) { /* another order of Y */
			Y.order = SL_COL_MAJOR;
			Y.ld = BATCH;
		}
		sl_sparse X = form(&e, f, dtype, ones);
		memset(y64, 0x55, sizeof y64);
		memset(y32, 0x55, sizeof y32);
		CHECK_OK(context, sl_layer_forward_sparse(context, layer, &X, &Y, NULL));
		for (int r = 0; r < BATCH; r++)
			for (int o = 0; o < OUT; o++) {
				double z = bias ? number(parameter_of(context, layer, 1).value, dtype, o) : 0, size = fabs(z) + 1;
				for (int i = 0; i < IN; i++)
					z += e.dense[r][i] * w[i][o];
				for (int64_t k = e.offsets[r]; k < e.offsets[r + 1]; k++)
					size += fabs(e.value[k] * w[e.col64[k]][o]);
				int64_t at = Y.order == SL_COL_MAJOR ? o * BATCH + r : r * LD + o;
				CHECK_NEAR(number(Y.data, dtype, at),
						   sl_test_activate(activation, activation == SL_CLIPPED_RELU ? 0.7 : 0.01, z),
						   16 * eps * size);
			}
		for (int r = 0; r < BATCH && Y.order == SL_ROW_MAJOR; r++)
			for (int o = OUT; o < LD; o++)
				CHECK(dtype == SL_F64 ? !memcmp(&y64[r * LD + o], "UUUUUUUU", 8)
									  : !memcmp(&y32[r * LD + o], "UUUU", 4));
	}
	sl_layer_destroy(layer);
	sl_context_destroy(context);
}

SL_TEST(sparse_input, forward) {
	for (int a = SL_IDENTITY; a <= SL_GELU; a++)
		for (int sparse = 0; sparse < 2; sparse++)
			for (int d = 0; d < 2; d++)
				check_forward((sl_activation)a, sparse ? 0.3 : 1, a % 2 == 0, d ? SL_F64 : SL_F32, a == SL_TANH);
}

static double objective(sl_context *context, const sl_layer *layer, const sl_sparse *X, const double *g) {
	double y[BATCH * OUT] = {0}, sum = 0;
	sl_dense Y = sl_dense_view(y, SL_F64, BATCH, OUT);
	CHECK_OK(context, sl_layer_forward_sparse(context, layer, X, &Y, NULL));
	for (int i = 0; i < BATCH * OUT; i++)
		sum += y[i] * g[i];
	return sum;
}

/* A row-sparse gradient spread over all of W. */
static void spread(const sl_parameter *p, const int64_t *offsets, double *all) {
	memset(all, 0, (size_t)p->count * sizeof *all);
	for (int64_t i = 0; i < p->gradient_row_count; i++) {
		CHECK(i == 0 || p->gradient_rows[i] > p->gradient_rows[i - 1]);
		int64_t n = p->gradient_starts[i + 1] - p->gradient_starts[i];
		CHECK_EQ(n, offsets[p->gradient_rows[i] + 1] - offsets[p->gradient_rows[i]]);
		for (int64_t k = 0; k < n; k++)
			all[offsets[p->gradient_rows[i]] + k] = number(p->gradient, p->dtype, p->gradient_starts[i] + k);
	}
}

static void row_offsets(sl_context *context, const sl_parameter *p, int64_t *offsets) {
	sl_pattern_arrays a;
	for (int64_t i = 0; i <= IN; i++)
		offsets[i] = i * OUT;
	if (!p->pattern)
		return;
	CHECK_OK(context, sl_pattern_get(context, p->pattern, &a));
	for (int64_t i = 0; i <= IN; i++)
		offsets[i] = ((const int32_t *)a.row_offsets)[i];
}

static void check_gradients(sl_activation activation, double density, int f) {
	sl_context *context = one_thread();
	static entries e;
	make_entries(&e, 9, false);
	sl_layer *layer = make_layer(context, activation, density, true, SL_F64);
	double g[BATCH * OUT], y[BATCH * OUT] = {0}, all[IN * OUT], twice[IN * OUT], h = 1e-5;
	int64_t offsets[IN + 1];
	bool occurs[IN] = {false};
	sl_test_fill(g, SL_F64, BATCH * OUT, 4);
	sl_sparse X = form(&e, f, SL_F64, false);
	sl_dense Y = sl_dense_view(y, SL_F64, BATCH, OUT), G = sl_dense_view(g, SL_F64, BATCH, OUT);
	sl_saved *saved = NULL;
	CHECK_OK(context, sl_saved_create(&saved, context, layer, BATCH));
	CHECK_OK(context, sl_layer_forward_sparse(context, layer, &X, &Y, saved));
	memset(y, 0, sizeof y); /* the caller's from here on */
	CHECK_OK(context, sl_layer_backward(context, layer, saved, &G, NULL, SL_OVERWRITE));
	sl_parameter p = parameter_of(context, layer, 0), b = parameter_of(context, layer, 1);
	row_offsets(context, &p, offsets);
	spread(&p, offsets, all);
	for (int64_t k = 0; k < e.nnz; k++)
		occurs[e.col64[k]] = true;
	int64_t rows = 0;
	for (int i = 0; i < IN; i++)
		rows += occurs[i];
	CHECK_EQ(p.gradient_row_count, rows);
	CHECK_EQ(p.gradient_count, p.gradient_starts[rows]);
	for (int which = 0; which < 2; which++) {
		const sl_parameter *q = which ? &b : &p;
		for (int64_t i = 0; i < q->count; i++) {
			double *at = (double *)q->value + i, keep = *at;
			*at = keep + h;
			double up = objective(context, layer, &X, g);
			*at = keep - h;
			double down = objective(context, layer, &X, g);
			*at = keep;
			CHECK_NEAR(which ? ((double *)b.gradient)[i] : all[i], (up - down) / (2 * h), 1e-7);
		}
	}
	double first_bias = ((double *)b.gradient)[0];
	/* Another batch on top: the rows of both, each with its own sum. */
	static entries other;
	make_entries(&other, 31, false);
	sl_sparse X2 = form(&other, CSR, SL_F64, false);
	CHECK_OK(context, sl_layer_forward_sparse(context, layer, &X2, &Y, saved));
	CHECK_OK(context, sl_layer_backward(context, layer, saved, &G, NULL, SL_ACCUMULATE));
	p = parameter_of(context, layer, 0);
	double both_bias = ((double *)b.gradient)[0];
	spread(&p, offsets, twice);
	CHECK_OK(context, sl_layer_forward_sparse(context, layer, &X2, &Y, saved));
	CHECK_OK(context, sl_layer_backward(context, layer, saved, &G, NULL, SL_OVERWRITE));
	p = parameter_of(context, layer, 0);
	static double second[IN * OUT];
	spread(&p, offsets, second);
	for (int64_t i = 0; i < p.count; i++)
		CHECK_NEAR(twice[i], all[i] + second[i], 1e-13);
	CHECK_NEAR(both_bias, first_bias + ((double *)b.gradient)[0], 1e-13);
	sl_saved_destroy(saved);
	sl_layer_destroy(layer);
	sl_context_destroy(context);
}

SL_TEST(sparse_input, gradients) {
	for (int a = SL_IDENTITY; a <= SL_GELU; a++)
		for (int sparse = 0; sparse < 2; sparse++)
			check_gradients((sl_activation)a, sparse ? 0.3 : 1, a % FORMS);
	check_gradients(SL_TANH, 1, CSC);
	check_gradients(SL_TANH, 0.3, COO);
}

/* No entries at all, no samples, and features that no weight has. */
SL_TEST(sparse_input, empty) {
	sl_context *context = sl_test_context();
	for (int sparse = 0; sparse < 2; sparse++) {
		sl_layer *layer = make_layer(context, SL_IDENTITY, sparse ? 0.02 : 1, true, SL_F32);
		int64_t offsets[4] = {0};
		float y[3 * OUT] = {0};
		sl_sparse X = {.rows = 3, .cols = IN, .offsets = offsets, .offset_dtype = SL_I64};
		sl_dense Y = sl_dense_view(y, SL_F32, 3, OUT);
		sl_saved *saved = NULL;
		CHECK_OK(context, sl_saved_create(&saved, context, layer, 3));
		CHECK_OK(context, sl_layer_forward_sparse(context, layer, &X, &Y, saved));
		sl_parameter p = parameter_of(context, layer, 0), b = parameter_of(context, layer, 1);
		for (int i = 0; i < 3 * OUT; i++)
			CHECK(y[i] == ((float *)b.value)[i % OUT]);
		CHECK_EQ(p.gradient_row_count, 0);
		CHECK_OK(context, sl_layer_backward(context, layer, saved, &Y, NULL, SL_OVERWRITE));
		CHECK_OK(context, sl_layer_backward(context, layer, saved, &Y, NULL, SL_ACCUMULATE));
		p = parameter_of(context, layer, 0);
		b = parameter_of(context, layer, 1);
		CHECK_EQ(p.gradient_row_count, 0);
		CHECK_NEAR(((float *)b.gradient)[1], 6 * y[1], 1e-5);
		sl_sparse none = {.format = SL_SPARSE_COO, .cols = IN};
		sl_dense no_rows = sl_dense_view(y, SL_F32, 0, OUT);
		CHECK_OK(context, sl_layer_forward_sparse(context, layer, &none, &no_rows, saved));
		CHECK_OK(context, sl_layer_backward(context, layer, saved, &no_rows, NULL, SL_OVERWRITE));
		CHECK(((float *)parameter_of(context, layer, 1).gradient)[1] == 0);
		sl_saved_destroy(saved);
		sl_layer_destroy(layer);
	}
	sl_context_destroy(context);
}

/* Wide and large enough that work is cut, with columns that many samples share. */
enum { WIDE = 20000, SAMPLES = 150, EACH = 90, WIDTH = 33 };

static void wide_step(int threads, int steps, double density, sl_write write, float *y, float **gradient,
					  int64_t *count, int32_t **rows, int64_t *row_count, float bias[WIDTH]) {
	sl_context *context = NULL;
	CHECK_EQ(sl_context_create(&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .seed = 3,
															   .threads = threads}),
			 SL_OK);
	sl_layer *layer = NULL;
	sl_linear_options o = {SL_LINEAR_DEFAULTS, .in_features = WIDE,  .out_features = WIDTH, .dense = density == 1,
						   .density = density, .bias = true,         .activation = SL_RELU, .init = SL_INIT_UNIFORM,
						   .init_scale = 1,    .sparse_inputs = true};
	CHECK_OK(context, sl_linear_create(&layer, context, &o));
	static int32_t columns[SAMPLES * EACH];
	static float values[SAMPLES * EACH], g[SAMPLES * WIDTH];
	int64_t offsets[SAMPLES + 1];
	uint64_t state = 11;
	for (int i = 0; i < SAMPLES * EACH; i++) {
		uint64_t far = next(&state);
		columns[i] = (int32_t)(i % 3 ? far % WIDE : far % 20);
	}
	sl_test_fill(values, SL_F32, SAMPLES * EACH, 5);
	sl_test_fill(g, SL_F32, SAMPLES * WIDTH, 6);
	for (int i = 0; i <= SAMPLES; i++)
		offsets[i] = (int64_t)i * EACH;
	sl_sparse X = {.rows = SAMPLES,
				   .cols = WIDE,
				   .nnz = SAMPLES * EACH,
				   .offsets = offsets,
				   .offset_dtype = SL_I64,
				   .col_indices = columns,
				   .index_dtype = SL_I32,
				   .values = values,
				   .dtype = SL_F32};
	sl_dense Y = sl_dense_view(y, SL_F32, SAMPLES, WIDTH), G = sl_dense_view(g, SL_F32, SAMPLES, WIDTH);
	sl_saved *saved = NULL;
	CHECK_OK(context, sl_saved_create(&saved, context, layer, SAMPLES));
	CHECK_OK(context, sl_layer_prepare(context, layer, SAMPLES, SL_MODE_TRAINING));
	int64_t before = 0;
	for (int step = 0; step < steps; step++) { /* from the fourth on nothing is allocated */
		sl_memory_usage usage = {.struct_size = sizeof usage};
		CHECK_OK(context, sl_context_memory(context, &usage));
		if (step == 4)
			CHECK_EQ(usage.allocations, before);
		before = usage.allocations;
		CHECK_OK(context, sl_layer_forward_sparse(context, layer, &X, &Y, saved));
		CHECK_OK(context, sl_layer_backward(context, layer, saved, &G, NULL, step ? write : SL_OVERWRITE));
	}
	sl_parameter p = parameter_of(context, layer, 0);
	*count = p.gradient_count;
	*row_count = p.gradient_row_count;
	*gradient = malloc((size_t)*count * sizeof **gradient);
	*rows = malloc((size_t)*row_count * sizeof **rows);
	memcpy(*gradient, p.gradient, (size_t)*count * sizeof **gradient);
	memcpy(*rows, p.gradient_rows, (size_t)*row_count * sizeof **rows);
	memcpy(bias, parameter_of(context, layer, 1).gradient, WIDTH * sizeof *bias);
	sl_saved_destroy(saved);
	sl_layer_destroy(layer);
	sl_context_destroy(context);
}

static void same_bits(double density, sl_write write) {
	static float y[2][SAMPLES * WIDTH];
	float *gradient[2], bias[2][WIDTH];
	int32_t *rows[2];
	int64_t count[2], row_count[2];
	const int threads[] = {2, 4, 7};
	wide_step(1, 2, density, write, y[0], &gradient[0], &count[0], &rows[0], &row_count[0], bias[0]);
	CHECK(row_count[0] > 1000);
	for (int i = 0; i < 3; i++) {
		wide_step(threads[i], 2, density, write, y[1], &gradient[1], &count[1], &rows[1], &row_count[1], bias[1]);
		CHECK(count[0] == count[1] && row_count[0] == row_count[1]);
		CHECK(!memcmp(y[0], y[1], sizeof y[0]) && !memcmp(bias[0], bias[1], sizeof bias[0]));
		CHECK(!memcmp(gradient[0], gradient[1], (size_t)count[0] * sizeof(float)));
		CHECK(!memcmp(rows[0], rows[1], (size_t)row_count[0] * sizeof(int32_t)));
		free(gradient[1]);
		free(rows[1]);
	}
	free(gradient[0]);
	free(rows[0]);
}

SL_TEST(sparse_input, steps_stop_allocating) {
	static float y[SAMPLES * WIDTH], bias[WIDTH];
	for (int sparse = 0; sparse < 2; sparse++) {
		float *gradient;
		int32_t *rows;
		int64_t count, row_count;
		wide_step(1, 5, sparse ? 0.1 : 1, SL_ACCUMULATE, y, &gradient, &count, &rows, &row_count, bias);
		free(gradient);
		free(rows);
	}
}

SL_TEST(sparse_input, same_bits_whatever_the_threads) {
	same_bits(1, SL_OVERWRITE);
	same_bits(0.1, SL_ACCUMULATE);
}

/* A layer of sparse inputs, and one with the same array of weights that gets the gradient spread out: the same bits
 * after each step, for every optimizer, unless it is lazy. */
static void check_optimizer(sl_optimizer_options options, double density, sl_dtype dtype) {
	sl_context *context = one_thread();
	static entries e;
	sl_layer *layer = make_layer(context, SL_IDENTITY, density, false, dtype), *plain = NULL;
	sl_linear_options o = {SL_LINEAR_DEFAULTS, .in_features = OUT, .out_features = IN, .dense = density == 1,
						   .dtype = dtype};
	if (density != 1)
		o.weights = sl_layer_weights(layer);
	CHECK_OK(context, sl_linear_create(&plain, context, &o));
	sl_optimizer *mine = NULL, *reference = NULL;
	CHECK_OK(context, sl_optimizer_create(&mine, context, &options));
	CHECK_OK(context, sl_optimizer_create(&reference, context, &options));
	CHECK_OK(context, sl_optimizer_add(context, mine, layer));
	CHECK_OK(context, sl_optimizer_add(context, reference, plain));
	sl_parameter p = parameter_of(context, layer, 0), q = parameter_of(context, plain, 0);
	size_t bytes = (size_t)p.count * sl_dtype_size(dtype);
	CHECK(p.count == q.count);
	memcpy(q.value, p.value, bytes);
	int64_t offsets[IN + 1];
	row_offsets(context, &p, offsets);
	sl_saved *saved = NULL;
	CHECK_OK(context, sl_saved_create(&saved, context, layer, BATCH));
	for (int step = 0; step < 5; step++) {
		double g[BATCH * OUT], all[IN * OUT];
		float narrow[BATCH * OUT];
		make_entries(&e, 40 + (uint64_t)step, false);
		sl_sparse X = form(&e, CSR, dtype, false);
		sl_test_fill(g, SL_F64, BATCH * OUT, 4 + (uint64_t)step);
		sl_test_fill(narrow, SL_F32, BATCH * OUT, 4 + (uint64_t)step);
		sl_dense G = sl_dense_view(dtype == SL_F64 ? (void *)g : narrow, dtype, BATCH, OUT);
		double y[BATCH * OUT] = {0};
		sl_dense Y = sl_dense_view(y, dtype, BATCH, OUT);
		CHECK_OK(context, sl_layer_forward_sparse(context, layer, &X, &Y, saved));
		CHECK_OK(context, sl_layer_backward(context, layer, saved, &G, NULL, SL_OVERWRITE));
		p = parameter_of(context, layer, 0);
		spread(&p, offsets, all);
		for (int64_t i = 0; i < q.count; i++)
			if (dtype == SL_F64)
				((double *)q.gradient)[i] = all[i];
			else
				((float *)q.gradient)[i] = (float)all[i];
		CHECK_OK(context, sl_optimizer_scale_gradients(context, mine, 0.5));
		CHECK_OK(context, sl_optimizer_scale_gradients(context, reference, 0.5));
		unsigned char before[IN * OUT * 8];
		memcpy(before, p.value, bytes);
		CHECK_OK(context, sl_optimizer_step(context, mine));
		CHECK_OK(context, sl_optimizer_step(context, reference));
		/* The norm is summed over other elements beside each other, so clipped steps agree to rounding only. */
		bool listed[IN] = {false};
		for (int64_t i = 0; i < p.gradient_row_count; i++)
			listed[p.gradient_rows[i]] = true;
		for (int r = 0; r < IN; r++) {
			for (int64_t i = offsets[r]; i < offsets[r + 1]; i++) {
				double a = number(p.value, dtype, i), b = number(q.value, dtype, i);
				if (options.lazy && !listed[r])
					CHECK(a == number(before, dtype, i));
				if (!options.lazy || (step == 0 && listed[r]))
					CHECK_NEAR(a, b, options.clip_norm > 0 ? (dtype == SL_F64 ? 1e-14 : 1e-6) : 0);
			}
		}
	}
	sl_saved_destroy(saved);
	sl_optimizer_destroy(mine);
	sl_optimizer_destroy(reference);
	sl_layer_destroy(layer);
	sl_layer_destroy(plain);
	sl_context_destroy(context);
}

SL_TEST(sparse_input, optimizers_as_dense) {
	for (int kind = SL_SGD; kind <= SL_ADAMW; kind++)
		for (int what = 0; what < 6; what++)
			for (int sparse = 0; sparse < 2; sparse++) {
				sl_optimizer_options o = {SL_OPTIMIZER_DEFAULTS, .kind = (sl_optimizer_kind)kind, .learning_rate = 0.1};
				o.clip_value = what == 1 ? 0.05 : 0;
				o.clip_norm = what == 2 ? 0.3 : 0;
				o.l1 = what == 3 ? 0.01 : 0;
				o.l2 = what == 4 ? 0.02 : 0;
				o.l1_proximal = what == 5 ? 0.05 : 0;
				for (int lazy = 0; lazy < 2; lazy++) {
					o.lazy = lazy;
					check_optimizer(o, sparse ? 0.4 : 1, what % 2 ? SL_F64 : SL_F32);
				}
			}
}

/* Two layers; the first of sparse inputs or, for comparison, an ordinary one with the same weights. */
static sl_model *make_model(sl_context *context, bool sparse, double density, const sl_model *like) {
	sl_model *model = NULL;
	CHECK_OK(context, sl_model_create(&model, context));
	for (int i = 0; i < 2; i++) {
		sl_layer *layer = NULL;
		sl_linear_options o = {SL_LINEAR_DEFAULTS,
							   .in_features = i ? OUT : IN,
							   .out_features = i ? 4 : OUT,
							   .dense = i || density == 1,
							   .density = i ? 1 : density,
							   .bias = true,
							   .activation = i ? SL_IDENTITY : SL_TANH,
							   .dtype = SL_F64,
							   .stream = (uint64_t)i,
							   .sparse_inputs = sparse && !i};
		sl_csr *turned = NULL;
		if (like && !i && density != 1) {
			CHECK_OK(context, sl_csr_transpose(&turned, context, sl_layer_weights(sl_model_layer(like, 0))));
			o.weights = turned;
			o.density = 0;
		}
		CHECK_OK(context, sl_linear_create(&layer, context, &o));
		sl_csr_destroy(turned);
		CHECK_OK(context, sl_model_add(context, model, layer));
		if (!like)
			continue;
		sl_parameter from = parameter_of(context, sl_model_layer(like, i), 0), to = parameter_of(context, layer, 0);
		for (int r = 0; r < IN && !i && density == 1; r++)
			for (int c = 0; c < OUT; c++)
				((double *)to.value)[c * IN + r] = ((double *)from.value)[r * OUT + c];
		if (i)
			memcpy(to.value, from.value, (size_t)to.count * sizeof(double));
	}
	return model;
}

static bool gather_losses(void *user, const sl_epoch *epoch) {
	((double *)user)[epoch->epoch] = epoch->loss;
	return true;
}

/* Three epochs with shuffling and a short last batch: the same losses as a model that sees X densely. */
static void check_fit(double density, bool lazy) {
	sl_context *context = sl_test_context();
	static entries e;
	make_entries(&e, 21, false);
	int32_t labels[BATCH];
	for (int i = 0; i < BATCH; i++)
		labels[i] = i % 4;
	sl_model *model = make_model(context, true, density, NULL), *plain = make_model(context, false, density, model);
	sl_model *models[] = {model, plain};
	double losses[2][3], outputs[2][BATCH * 4], loss[2], accuracy[2];
	sl_sparse X = form(&e, CSR, SL_F64, false);
	for (int i = 0; i < 2; i++) {
		sl_samples samples = {SL_SAMPLES_DEFAULTS, .labels = labels};
		if (i)
			samples.inputs = sl_dense_view(e.dense, SL_F64, BATCH, IN);
		else
			samples.sparse_inputs = &X;
		sl_optimizer *optimizer = NULL;
		CHECK_OK(context,
				 sl_optimizer_create(&optimizer, context,
									 &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .learning_rate = 0.3,
															 .kind = lazy ? SL_SGD : SL_MOMENTUM, .lazy = lazy}));
		CHECK_OK(context, sl_model_add_to_optimizer(context, models[i], optimizer));
		CHECK_OK(context,
				 sl_model_fit(context, models[i], optimizer, &samples,
							  &(sl_fit_options){SL_FIT_DEFAULTS, .epochs = 3, .batch = 4, .accumulate = 2,
												.validation = &samples, .on_epoch = gather_losses, .user = losses[i]}));
		CHECK_OK(context,
				 sl_model_evaluate(context, models[i], SL_SOFTMAX_CROSS_ENTROPY, &samples, 3, &loss[i], &accuracy[i]));
		sl_dense Y = sl_dense_view(outputs[i], SL_F64, BATCH, 4);
		if (i)
			CHECK_OK(context, sl_model_predict(context, models[i], &samples.inputs, &Y, 5));
		else
			CHECK_OK(context, sl_model_predict_sparse(context, models[i], &X, &Y, 5));
		sl_optimizer_destroy(optimizer);
	}
	CHECK(losses[0][2] < losses[0][0]);
	for (int i = 0; i < 3; i++)
		CHECK_NEAR(losses[0][i], losses[1][i], 1e-12);
	CHECK_NEAR(loss[0], loss[1], 1e-12);
	CHECK(accuracy[0] == accuracy[1]);
	for (int i = 0; i < BATCH * 4; i++)
		CHECK_NEAR(outputs[0][i], outputs[1][i], 1e-11);
	sl_model_destroy(model);
	sl_model_destroy(plain);
	sl_context_destroy(context);
}

SL_TEST(sparse_input, fit_as_dense) {
	check_fit(1, false);
	check_fit(0.4, false);
	check_fit(1, true);
}

/* The single calls give the gradients of the dense model. */
SL_TEST(sparse_input, single_calls) {
	sl_context *context = sl_test_context();
	static entries e;
	make_entries(&e, 22, false);
	sl_model *model = make_model(context, true, 1, NULL), *plain = make_model(context, false, 1, model);
	int32_t labels[BATCH] = {1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
	sl_sparse X = form(&e, CSC, SL_F64, false);
	sl_dense D = sl_dense_view(e.dense, SL_F64, BATCH, IN);
	sl_targets t = {.labels = labels};
	sl_loss_result a, b;
	CHECK_OK(context, sl_model_train_batch_sparse(context, model, SL_SOFTMAX_CROSS_ENTROPY, &X, &t, SL_OVERWRITE, &a));
	CHECK_OK(context, sl_model_train_batch(context, plain, SL_SOFTMAX_CROSS_ENTROPY, &D, &t, SL_OVERWRITE, &b));
	CHECK_NEAR(a.loss, b.loss, 1e-14);
	sl_parameter p = parameter_of(context, sl_model_layer(model, 0), 0);
	sl_parameter q = parameter_of(context, sl_model_layer(plain, 0), 0);
	int64_t offsets[IN + 1];
	static double all[IN * OUT];
	row_offsets(context, &p, offsets);
	spread(&p, offsets, all);
	for (int r = 0; r < IN; r++)
		for (int c = 0; c < OUT; c++)
			CHECK_NEAR(all[r * OUT + c], ((double *)q.gradient)[c * IN + r], 1e-14);
	double y[2][BATCH * 4] = {{0}};
	sl_dense Y0 = sl_dense_view(y[0], SL_F64, BATCH, 4), Y1 = sl_dense_view(y[1], SL_F64, BATCH, 4);
	CHECK_OK(context, sl_model_forward_sparse(context, model, &X, &Y0, SL_MODE_TRAINING));
	CHECK_OK(context, sl_model_forward(context, plain, &D, &Y1, SL_MODE_TRAINING));
	for (int i = 0; i < BATCH * 4; i++)
		CHECK_NEAR(y[0][i], y[1][i], 1e-14);
	CHECK_OK(context, sl_model_backward(context, model, &Y0, NULL, SL_OVERWRITE));
	CHECK_STATUS(context, sl_model_backward(context, model, &Y0, &D, SL_OVERWRITE), SL_ERR_ARGUMENT, "d_inputs");
	CHECK_STATUS(context, sl_model_forward(context, model, &D, &Y0, SL_MODE_TRAINING), SL_ERR_STATE, "sparse inputs");
	CHECK_STATUS(context, sl_model_forward_sparse(context, plain, &X, &Y0, SL_MODE_TRAINING), SL_ERR_STATE,
				 "dense inputs");
	CHECK_STATUS(context, sl_model_predict_sparse(context, model, &X, &Y0, 3), SL_ERR_LAYOUT, "CSR");
	sl_layer *layer = make_layer(context, SL_RELU, 1, true, SL_F64);
	sl_model *two = NULL;
	CHECK_OK(context, sl_model_create(&two, context));
	sl_layer *before = NULL;
	CHECK_OK(context, sl_linear_create(&before, context,
									   &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = 3, .out_features = IN,
															.dtype = SL_F64}));
	CHECK_OK(context, sl_model_add(context, two, before));
	CHECK_STATUS(context, sl_model_add(context, two, layer), SL_ERR_ARGUMENT, "only be the first");
	sl_layer_destroy(layer);
	sl_model_destroy(two);
	sl_model_destroy(model);
	sl_model_destroy(plain);
	sl_context_destroy(context);
}

/* Saved, loaded and pruned, it goes on. */
SL_TEST(sparse_input, save_and_prune) {
	sl_context *context = sl_test_context();
	static entries e;
	make_entries(&e, 23, false);
	char path[] = "/tmp/sl-sparse-input-XXXXXX";
	int file = mkstemp(path);
	CHECK(file >= 0);
	int32_t labels[BATCH] = {1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
	sl_sparse X = form(&e, CSR, SL_F64, false);
	sl_targets t = {.labels = labels};
	for (int sparse = 0; sparse < 2; sparse++) {
		sl_model *model = make_model(context, true, sparse ? 0.4 : 1, NULL), *again = NULL;
		sl_optimizer *optimizer = NULL, *optimizer_again = NULL;
		CHECK_OK(context,
				 sl_optimizer_create(&optimizer, context,
									 &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM, .lazy = true}));
		CHECK_OK(context, sl_model_add_to_optimizer(context, model, optimizer));
		sl_loss_result a, b;
		for (int step = 0; step < 2; step++) {
			CHECK_OK(context,
					 sl_model_train_batch_sparse(context, model, SL_SOFTMAX_CROSS_ENTROPY, &X, &t, SL_OVERWRITE, &a));
			CHECK_OK(context, sl_optimizer_step(context, optimizer));
		}
		CHECK_OK(context, sl_model_save(context, model, optimizer, NULL, path));
		CHECK_OK(context, sl_model_load(&again, &optimizer_again, NULL, context, path, NULL));
		for (int step = 0; step < 2; step++) {
			CHECK_OK(context,
					 sl_model_train_batch_sparse(context, model, SL_SOFTMAX_CROSS_ENTROPY, &X, &t, SL_OVERWRITE, &a));
			CHECK_OK(context,
					 sl_model_train_batch_sparse(context, again, SL_SOFTMAX_CROSS_ENTROPY, &X, &t, SL_OVERWRITE, &b));
			CHECK(a.loss == b.loss);
			CHECK_OK(context, sl_optimizer_step(context, optimizer));
			CHECK_OK(context, sl_optimizer_step(context, optimizer_again));
		}
		CHECK_OK(context, sl_layer_prune(context, sl_model_layer(model, 0), 0.2, optimizer));
		sl_pattern_arrays arrays;
		CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(sl_layer_weights(sl_model_layer(model, 0))), &arrays));
		CHECK(arrays.rows == IN && arrays.cols == OUT);
		CHECK_EQ(parameter_of(context, sl_model_layer(model, 0), 0).gradient_row_count, 0);
		CHECK_OK(context,
				 sl_model_train_batch_sparse(context, model, SL_SOFTMAX_CROSS_ENTROPY, &X, &t, SL_ACCUMULATE, &a));
		CHECK_OK(context, sl_optimizer_step(context, optimizer));
		sl_model_destroy(model);
		sl_model_destroy(again);
		sl_optimizer_destroy(optimizer);
		sl_optimizer_destroy(optimizer_again);
	}
	remove(path);
	sl_context_destroy(context);
}

/* What is wrong with a view is named. */
SL_TEST(sparse_input, bad_views) {
	sl_context *context = sl_test_context();
	static entries e;
	make_entries(&e, 3, false);
	sl_layer *layer = make_layer(context, SL_RELU, 1, true, SL_F64);
	double y[BATCH * OUT] = {0};
	sl_dense Y = sl_dense_view(y, SL_F64, BATCH, OUT);
#define BAD(which, change, status, text)                                                                               \
	do {                                                                                                               \
		make_entries(&e, 3, false);                                                                                    \
		sl_sparse X = form(&e, which, SL_F64, false);                                                                  \
		change;                                                                                                        \
		CHECK_STATUS(context, sl_layer_forward_sparse(context, layer, &X, &Y, NULL), status, text);                    \
	} while (0)
	BAD(CSR, X.rows = -1, SL_ERR_ARGUMENT, "negative");
	BAD(CSR, X.format = (sl_sparse_format)3, SL_ERR_ARGUMENT, "X.format");
	BAD(CSR, X.cols = IN + 1, SL_ERR_SHAPE, "X has 38 columns");
	BAD(CSR, X.cols = (int64_t)1 << 31, SL_ERR_OVERFLOW, "2^31 - 1");
	BAD(CSR, X.dtype = SL_F32, SL_ERR_DTYPE, "f64 is needed");
	BAD(CSR, X.dtype = SL_F16, SL_ERR_DTYPE, "f32 or f64");
	BAD(CSR, X.offsets = NULL, SL_ERR_NULL, "X.offsets");
	BAD(CSR, X.col_indices = NULL, SL_ERR_NULL, "X.col_indices");
	BAD(CSC, X.row_indices = NULL, SL_ERR_NULL, "X.row_indices");
	BAD(COO, X.row_indices = NULL, SL_ERR_NULL, "X.row_indices");
	BAD(CSR, X.offset_dtype = SL_F32, SL_ERR_DTYPE, "X.offset_dtype");
	BAD(CSR, X.index_dtype = (sl_dtype)0, SL_ERR_DTYPE, "X.index_dtype");
	BAD(CSR, e.offsets[2] = -1, SL_ERR_STRUCTURE, "row 1 has entries");
	BAD(CSR, e.offsets[BATCH] = e.nnz + 1, SL_ERR_STRUCTURE, "row 10 has entries");
	BAD(CSR_ENDS, e.ends[4] = e.starts[4] - 1, SL_ERR_STRUCTURE, "row 4 has entries");
	BAD(CSR, e.col32[6] = IN, SL_ERR_STRUCTURE, "(entry 6) is outside [0, 37)");
	BAD(CSR, e.col32[6] = -1, SL_ERR_STRUCTURE, "column -1 in row");
	BAD(CSR_WIDE, e.col64[6] = (int64_t)1 << 32, SL_ERR_STRUCTURE, "column 4294967296");
	BAD(CSC, e.csc_row[2] = BATCH, SL_ERR_STRUCTURE, "row 11 in column");
	BAD(COO, e.coo_row[5] = -3, SL_ERR_STRUCTURE, "row -3 (entry 5)");
	BAD(COO, e.coo_col[5] = IN, SL_ERR_STRUCTURE, "column 37 (entry 5)");
	make_entries(&e, 3, false);
	sl_sparse X = form(&e, CSR, SL_F64, false);
	sl_dense D = sl_dense_view(e.dense, SL_F64, BATCH, IN), few = sl_dense_view(y, SL_F64, BATCH - 1, OUT);
	CHECK_STATUS(context, sl_layer_forward(context, layer, &D, &Y, NULL), SL_ERR_STATE, "sl_layer_forward_sparse");
	CHECK_STATUS(context, sl_layer_forward_sparse(context, layer, &X, &few, NULL), SL_ERR_SHAPE, "Y has 10 rows");
	CHECK_STATUS(context, sl_layer_forward_sparse(context, layer, NULL, &Y, NULL), SL_ERR_NULL, "X is null");
	sl_saved *saved = NULL;
	CHECK_OK(context, sl_saved_create(&saved, context, layer, BATCH));
	CHECK_OK(context, sl_layer_forward_sparse(context, layer, &X, &Y, saved));
	CHECK_STATUS(context, sl_layer_backward(context, layer, saved, &Y, &D, SL_OVERWRITE), SL_ERR_ARGUMENT, "dX");
	/* Choosing rows. */
	int64_t rows[] = {10, 3, 0}, begins[3], ends[3];
	sl_sparse chosen;
	CHECK_OK(context, sl_sparse_select(context, &X, rows, 3, begins, ends, &chosen));
	CHECK(chosen.rows == 3 && begins[0] == e.offsets[10] && ends[0] == e.offsets[11] && begins[1] == ends[1]);
	CHECK_OK(context, sl_sparse_check(context, &chosen));
	sl_sparse part = sl_sparse_slice(chosen, 1, 2);
	CHECK(part.rows == 2 && part.offsets == begins + 1 && part.ends == ends + 1);
	CHECK_EQ(sl_sparse_slice(X, 5, BATCH).rows, 0);
	rows[1] = BATCH;
	CHECK_STATUS(context, sl_sparse_select(context, &X, rows, 3, begins, ends, &chosen), SL_ERR_ARGUMENT, "rows[1]");
	sl_sparse coo = form(&e, COO, SL_F64, false);
	CHECK_STATUS(context, sl_sparse_select(context, &coo, rows, 3, begins, ends, &chosen), SL_ERR_LAYOUT, "CSR");
	CHECK_STATUS(context, sl_sparse_check(context, NULL), SL_ERR_NULL, "view");
	CHECK_EQ(sl_sparse_from_csr(NULL).rows, 0);
	sl_saved_destroy(saved);
	sl_layer_destroy(layer);
	sl_context_destroy(context);
}

/* Sparse targets: the dense ones' loss and gradient, and for what is unknown a sum over what is stored. */
enum { ROWS = 70, CLASSES = 9 };

static void check_targets(sl_loss loss, bool ignore, bool ones, sl_dtype dtype) {
	sl_context *context = sl_test_context();
	int64_t offsets[ROWS + 1] = {0}, nnz = 0;
	static int32_t columns[ROWS * CLASSES];
	static double values[ROWS * CLASSES], dense[ROWS][CLASSES], x[ROWS * CLASSES], expected[ROWS * CLASSES];
	static float narrow[ROWS * CLASSES], x32[ROWS * CLASSES], g32[ROWS * CLASSES];
	static double g64[ROWS * CLASSES];
	uint64_t state = 19;
	memset(dense, 0, sizeof dense);
	for (int r = 0; r < ROWS; r++) {
		for (int c = 0; c < CLASSES; c++)
			if (r != 4 && next(&state) % 3 == 0) {
				columns[nnz] = c;
				values[nnz] = dense[r][c] = ones ? 1 : (double)(next(&state) % 5) / 4;
				narrow[nnz] = (float)values[nnz];
				nnz++;
			}
		offsets[r + 1] = nnz;
	}
	sl_test_fill(x, SL_F64, ROWS * CLASSES, 8);
	for (int i = 0; i < ROWS * CLASSES; i++)
		x[i] = (double)(x32[i] = (float)(3 * x[i]));
	double sum = 0;
	int64_t correct = 0, k = 0;
	double per = loss == SL_SOFTMAX_CROSS_ENTROPY ? ROWS : ignore ? (double)nnz : ROWS * CLASSES;
	for (int r = 0; r < ROWS; r++) {
		double z = 0, total = 0;
		int best = 0;
		for (int c = 0; c < CLASSES; c++) {
			z += exp(x[r * CLASSES + c]);
			total += dense[r][c];
			best = x[r * CLASSES + c] > x[r * CLASSES + best] ? c : best;
		}
		correct += loss == SL_SOFTMAX_CROSS_ENTROPY && dense[r][best] > 0;
		for (int c = 0; c < CLASSES; c++) {
			double v = x[r * CLASSES + c], t = dense[r][c], *g = &expected[r * CLASSES + c];
			bool is_stored = k < offsets[r + 1] && columns[k] == c;
			k += is_stored;
			*g = 0;
			if (ignore && !is_stored)
				continue;
			if (loss == SL_SOFTMAX_CROSS_ENTROPY) {
				sum += t * (log(z) - v);
				*g = (total * exp(v) / z - t) / per;
			} else if (loss == SL_BINARY_CROSS_ENTROPY) {
				sum += log(1 + exp(v)) - v * t;
				*g = (1 / (1 + exp(-v)) - t) / per;
				correct += (v > 0) == (t > 0.5);
			} else {
				sum += (v - t) * (v - t);
				*g = 2 * (v - t) / per;
			}
		}
	}
	sl_sparse T = {.rows = ROWS,
				   .cols = CLASSES,
				   .nnz = nnz,
				   .offsets = offsets,
				   .offset_dtype = SL_I64,
				   .col_indices = columns,
				   .index_dtype = SL_I32,
				   .dtype = dtype};
	T.values = ones ? NULL : dtype == SL_F64 ? (const void *)values : narrow;
	sl_targets targets = {.sparse = &T, .ignore_zeros = ignore};
	sl_dense Y = sl_dense_view(dtype == SL_F64 ? (void *)x : x32, dtype, ROWS, CLASSES);
	sl_dense G = sl_dense_view(dtype == SL_F64 ? (void *)g64 : g32, dtype, ROWS, CLASSES);
	sl_loss_result result;
	double eps = dtype == SL_F64 ? 0x1p-50 : 0x1p-22;
	for (int in_place = 0; in_place < 2; in_place++) {
		if (in_place)
			G = Y;
		CHECK_OK(context, sl_loss_evaluate(context, loss, &Y, &targets, &G, &result));
		CHECK_NEAR(result.loss, sum / per, 1e-12);
		for (int i = 0; i < ROWS * CLASSES; i++)
			CHECK_NEAR(number(G.data, dtype, i), expected[i], 8 * eps / per);
		CHECK_EQ(result.correct, correct);
		CHECK_EQ(result.counted, loss == SL_MEAN_SQUARED_ERROR ? 0 : (int64_t)per);
	}
	sl_context_destroy(context);
}

SL_TEST(sparse_input, sparse_targets) {
	for (int loss = SL_SOFTMAX_CROSS_ENTROPY; loss <= SL_MEAN_SQUARED_ERROR; loss++)
		for (int ones = 0; ones < 2; ones++)
			for (int ignore = 0; ignore < 1 + (loss != SL_SOFTMAX_CROSS_ENTROPY); ignore++) {
				check_targets((sl_loss)loss, ignore, ones, SL_F64);
				check_targets((sl_loss)loss, ignore, ones, SL_F32);
			}
}

SL_TEST(sparse_input, bad_targets) {
	sl_context *context = sl_test_context();
	int64_t offsets[] = {0, 2, 2}, wide[] = {0, 2};
	int32_t columns[] = {0, 2}, labels[] = {0, 1};
	double y[6] = {0};
	sl_sparse T = {.rows = 2,
				   .cols = 3,
				   .nnz = 2,
				   .offsets = offsets,
				   .offset_dtype = SL_I64,
				   .col_indices = columns,
				   .index_dtype = SL_I32};
	sl_dense Y = sl_dense_view(y, SL_F64, 2, 3);
	sl_targets t = {.sparse = &T};
	sl_loss_result result;
	CHECK_OK(context, sl_loss_evaluate(context, SL_BINARY_CROSS_ENTROPY, &Y, &t, NULL, &result));
	t.labels = labels;
	CHECK_STATUS(context, sl_loss_evaluate(context, SL_SOFTMAX_CROSS_ENTROPY, &Y, &t, NULL, &result), SL_ERR_ARGUMENT,
				 "give one");
	t = (sl_targets){.labels = labels, .ignore_zeros = true};
	CHECK_STATUS(context, sl_loss_evaluate(context, SL_SOFTMAX_CROSS_ENTROPY, &Y, &t, NULL, &result), SL_ERR_ARGUMENT,
				 "without targets.sparse");
	t = (sl_targets){.sparse = &T, .ignore_zeros = true};
	CHECK_STATUS(context, sl_loss_evaluate(context, SL_SOFTMAX_CROSS_ENTROPY, &Y, &t, NULL, &result), SL_ERR_ARGUMENT,
				 "over all outputs");
	/* Nothing is known of a batch: nothing to learn. */
	offsets[1] = offsets[2] = 0;
	double g[6] = {1, 1, 1, 1, 1, 1};
	sl_dense G = sl_dense_view(g, SL_F64, 2, 3);
	CHECK_OK(context, sl_loss_evaluate(context, SL_MEAN_SQUARED_ERROR, &Y, &t, &G, &result));
	CHECK(result.loss == 0 && g[0] == 0 && g[5] == 0);
	offsets[1] = offsets[2] = 2;
	t.ignore_zeros = false;
	columns[1] = 0;
	CHECK_STATUS(context, sl_loss_evaluate(context, SL_MEAN_SQUARED_ERROR, &Y, &t, NULL, &result), SL_ERR_STRUCTURE,
				 "column 0 follows 0 in row 0 (entry 1)");
	columns[1] = 3;
	CHECK_STATUS(context, sl_loss_evaluate(context, SL_MEAN_SQUARED_ERROR, &Y, &t, NULL, &result), SL_ERR_STRUCTURE,
				 "outside [0, 3)");
	columns[1] = 2;
	T.cols = 4;
	CHECK_STATUS(context, sl_loss_evaluate(context, SL_MEAN_SQUARED_ERROR, &Y, &t, NULL, &result), SL_ERR_SHAPE, "2x4");
	T.cols = 3;
	T.col_indices = wide;
	T.index_dtype = SL_I64;
	CHECK_STATUS(context, sl_loss_evaluate(context, SL_MEAN_SQUARED_ERROR, &Y, &t, NULL, &result), SL_ERR_LAYOUT,
				 "int32 columns");
	sl_context_destroy(context);
}

/* A model of sparse inputs and sparse targets learns what one of dense ones does. */
SL_TEST(sparse_input, fit_sparse_targets) {
	sl_context *context = sl_test_context();
	static entries e;
	make_entries(&e, 25, false);
	int64_t offsets[BATCH + 1];
	int32_t columns[BATCH * 2];
	double dense[BATCH * 4] = {0}, losses[2][3];
	for (int r = 0; r <= BATCH; r++)
		offsets[r] = 2 * r;
	for (int r = 0; r < BATCH; r++) {
		columns[2 * r] = r % 2;
		columns[2 * r + 1] = 2 + r % 2;
		dense[4 * r + r % 2] = dense[4 * r + 2 + r % 2] = 1;
	}
	sl_sparse X = form(&e, CSR, SL_F64, false);
	sl_sparse T = {.rows = BATCH,
				   .cols = 4,
				   .nnz = 2 * BATCH,
				   .offsets = offsets,
				   .offset_dtype = SL_I64,
				   .col_indices = columns,
				   .index_dtype = SL_I32};
	sl_dense D = sl_dense_view(dense, SL_F64, BATCH, 4);
	for (int i = 0; i < 2; i++) {
		sl_model *model = make_model(context, true, 1, NULL);
		sl_optimizer *optimizer = NULL;
		sl_samples samples = {SL_SAMPLES_DEFAULTS, .sparse_inputs = &X};
		if (i)
			samples.targets = &D;
		else
			samples.sparse_targets = &T;
		CHECK_OK(context, sl_optimizer_create(&optimizer, context,
											  &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .learning_rate = 0.5}));
		CHECK_OK(context, sl_model_add_to_optimizer(context, model, optimizer));
		CHECK_OK(context, sl_model_fit(context, model, optimizer, &samples,
									   &(sl_fit_options){SL_FIT_DEFAULTS, .epochs = 3, .batch = 4,
														 .loss = SL_BINARY_CROSS_ENTROPY, .on_epoch = gather_losses,
														 .user = losses[i]}));
		sl_model_destroy(model);
		sl_optimizer_destroy(optimizer);
	}
	CHECK(losses[0][2] < losses[0][0]);
	for (int i = 0; i < 3; i++)
		CHECK(losses[0][i] == losses[1][i]);
	sl_context_destroy(context);
}

/* What a step needs besides weights does not depend on how wide they are. */
SL_TEST(sparse_input, memory_of_a_step) {
	size_t bytes[2];
	for (int i = 0; i < 2; i++) {
		sl_context *context = sl_test_context();
		sl_layer *layer = NULL;
		sl_optimizer *optimizer = NULL;
		sl_saved *saved = NULL;
		int64_t features = i ? 1000000 : 100000, offsets[] = {0, 2, 5};
		sl_linear_options o = {SL_LINEAR_DEFAULTS, .in_features = features, .out_features = 8,    .dense = true,
							   .bias = true,       .init = SL_INIT_ZERO,    .sparse_inputs = true};
		CHECK_OK(context, sl_linear_create(&layer, context, &o));
		CHECK_OK(context, sl_optimizer_create(&optimizer, context,
											  &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .lazy = true}));
		CHECK_OK(context, sl_optimizer_add(context, optimizer, layer));
		CHECK_OK(context, sl_saved_create(&saved, context, layer, 2));
		int32_t columns[] = {99999, 7, 7, 3, 50000};
		float y[16];
		sl_sparse X = {.rows = 2,
					   .cols = features,
					   .nnz = 5,
					   .offsets = offsets,
					   .offset_dtype = SL_I64,
					   .col_indices = columns,
					   .index_dtype = SL_I32};
		sl_dense Y = sl_dense_view(y, SL_F32, 2, 8);
		for (int step = 0; step < 2; step++) {
			CHECK_OK(context, sl_layer_forward_sparse(context, layer, &X, &Y, saved));
			CHECK_OK(context, sl_layer_backward(context, layer, saved, &Y, NULL, step ? SL_ACCUMULATE : SL_OVERWRITE));
		}
		CHECK_OK(context, sl_optimizer_step(context, optimizer));
		sl_memory_usage usage = {.struct_size = sizeof usage};
		CHECK_OK(context, sl_context_memory(context, &usage));
		bytes[i] = usage.peak - (size_t)features * 8 * sizeof(float);
		sl_saved_destroy(saved);
		sl_optimizer_destroy(optimizer);
		sl_layer_destroy(layer);
		sl_context_destroy(context);
	}
	CHECK_EQ(bytes[0], bytes[1]);
}
