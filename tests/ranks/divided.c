/* SPDX-License-Identifier: Apache-2.0 */
/* Layers divided over ranks, against the whole network in double and in one process. */
#include "ranks.h"

enum { IN = 37, MIDDLE = 61, OUT = 9, BATCH = 21, BLOCKS = 5 };

static double reference_x[BATCH][IN], reference_dy[BATCH][OUT];
static double w1[MIDDLE][IN], w2[OUT][MIDDLE];
static bool has1[MIDDLE][IN], has2[OUT][MIDDLE];
static double b1[MIDDLE], b2[OUT];

/* A power law: the first rows have nearly all nonzeros, some have none. */
static void make_weights(void) {
	for (int r = 0; r < MIDDLE; r++) {
		b1[r] = (float)signed_value(3, (uint64_t)r);
		for (int c = 0; c < IN; c++) {
			has1[r][c] = r != 40 && (signed_value(4, (uint64_t)(r * IN + c)) + 1) / 2 < 2.0 / (1 + r);
			w1[r][c] = has1[r][c] ? (float)signed_value(5, (uint64_t)(r * IN + c)) : 0;
		}
	}
	for (int r = 0; r < OUT; r++) {
		b2[r] = (float)signed_value(6, (uint64_t)r);
		for (int c = 0; c < MIDDLE; c++) {
			has2[r][c] = signed_value(7, (uint64_t)(r * MIDDLE + c)) < -0.2;
			w2[r][c] = has2[r][c] ? (float)signed_value(8, (uint64_t)(r * MIDDLE + c)) : 0;
		}
	}
	for (int b = 0; b < BATCH; b++) {
		for (int c = 0; c < IN; c++)
			reference_x[b][c] = (float)signed_value(9, (uint64_t)(b * IN + c));
		for (int c = 0; c < OUT; c++)
			reference_dy[b][c] = (float)signed_value(10, (uint64_t)(b * OUT + c));
	}
}

static sl_csr *csr_of(int rows, int cols, const double *w, const bool *has) {
	int64_t offsets[MIDDLE + 1] = {0};
	int32_t *columns = malloc((size_t)(rows * cols) * sizeof *columns);
	double *values = malloc((size_t)(rows * cols) * sizeof *values);
	sl_csr *csr = NULL;
	int64_t n = 0;
	CHECK(columns && values && rows <= MIDDLE);
	for (int r = 0; r < rows; r++) {
		for (int c = 0; c < cols; c++)
			if (has[r * cols + c]) {
				columns[n] = c;
				values[n++] = w[r * cols + c];
			}
		offsets[r + 1] = n;
	}
	OK(sl_csr_create(&csr, context, rows, cols, n, offsets, SL_I64, columns, SL_I32, values, SL_F64, NULL));
	free(columns);
	free(values);
	return csr;
}

static sl_model *build(sl_dtype dtype, sl_comm *over, int64_t blocks) {
	sl_model *model;
	sl_csr *one = csr_of(MIDDLE, IN, &w1[0][0], &has1[0][0]), *two = csr_of(OUT, MIDDLE, &w2[0][0], &has2[0][0]);
	sl_linear_options first = {SL_LINEAR_DEFAULTS, .in_features = IN,     .out_features = MIDDLE, .weights = one,
							   .bias = true,       .activation = SL_TANH, .dtype = dtype};
	sl_linear_options second = {SL_LINEAR_DEFAULTS, .in_features = MIDDLE, .out_features = OUT,
								.weights = two,     .bias = true,          .dtype = dtype};
	OK(sl_model_create(&model, context));
	if (over) {
		OK(sl_model_add_divided(context, model, over, &first, blocks));
		OK(sl_model_add_divided(context, model, over, &second, blocks));
	} else {
		sl_layer *layer;
		OK(sl_linear_create(&layer, context, &first));
		OK(sl_model_add(context, model, layer));
		OK(sl_linear_create(&layer, context, &second));
		OK(sl_model_add(context, model, layer));
	}
	sl_csr_destroy(one);
	sl_csr_destroy(two);
	const double *biases[] = {b1, b2};
	for (int i = 0; i < sl_model_layer_count(model); i++) {
		sl_block_info info = {.struct_size = sizeof info};
		sl_parameter p = {.struct_size = sizeof p};
		OK(sl_model_get_block(context, model, i, &info));
		OK(sl_layer_parameter(context, sl_model_layer(model, i), 1, &p));
		CHECK(info.layers == 2 && info.blocks == (over ? blocks : 0) &&
			  info.out_features == (info.layer ? OUT : MIDDLE));
		for (int64_t k = 0; k < p.count; k++) {
			double value = biases[info.layer][info.first_row + k];
			if (dtype == SL_F32)
				((float *)p.value)[k] = (float)value;
			else
				((double *)p.value)[k] = value;
		}
	}
	return model;
}

static void fill(void *to, const double *from, int64_t count, sl_dtype dtype) {
	for (int64_t i = 0; i < count; i++) {
		if (dtype == SL_F32)
			((float *)to)[i] = (float)from[i];
		else
			((double *)to)[i] = from[i];
	}
}

static double at(const void *data, int64_t i, sl_dtype dtype) {
	return dtype == SL_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

/* What the whole network gives, in double. */
static double ref_y[BATCH][OUT], ref_dx[BATCH][IN], ref_dw1[MIDDLE][IN], ref_dw2[OUT][MIDDLE], ref_db1[MIDDLE],
	ref_db2[OUT];

static void reference(void) {
	static double h[BATCH][MIDDLE], dz[BATCH][MIDDLE];
	memset(ref_dx, 0, sizeof ref_dx);
	memset(ref_dw1, 0, sizeof ref_dw1);
	memset(ref_dw2, 0, sizeof ref_dw2);
	memset(ref_db1, 0, sizeof ref_db1);
	memset(ref_db2, 0, sizeof ref_db2);
	for (int b = 0; b < BATCH; b++) {
		for (int r = 0; r < MIDDLE; r++) {
			double sum = b1[r];
			for (int c = 0; c < IN; c++)
				sum += w1[r][c] * reference_x[b][c];
			h[b][r] = tanh(sum);
			dz[b][r] = 0;
		}
		for (int r = 0; r < OUT; r++) {
			ref_y[b][r] = b2[r];
			ref_db2[r] += reference_dy[b][r];
			for (int c = 0; c < MIDDLE; c++) {
				ref_y[b][r] += w2[r][c] * h[b][c];
				ref_dw2[r][c] += reference_dy[b][r] * h[b][c];
				dz[b][c] += reference_dy[b][r] * w2[r][c];
			}
		}
		for (int r = 0; r < MIDDLE; r++) {
			double d = dz[b][r] * (1 - h[b][r] * h[b][r]);
			ref_db1[r] += d;
			for (int c = 0; c < IN; c++) {
				ref_dw1[r][c] += d * reference_x[b][c];
				ref_dx[b][c] += d * w1[r][c];
			}
		}
	}
}

static double worst(const void *data, const double *expected, int64_t count, sl_dtype dtype) {
	double most = 0;
	for (int64_t i = 0; i < count; i++)
		most = fmax(most, fabs(at(data, i, dtype) - expected[i]));
	return most;
}

/* All sums have fewer than 64 terms below 4 each. */
static double bound(sl_dtype dtype) {
	return 4 * 64 * 4 * (dtype == SL_F32 ? 1.2e-7 : 2.3e-16);
}

static void check_gradients(sl_model *model, sl_dtype dtype, double factor) {
	for (int i = 0; i < sl_model_layer_count(model); i++) {
		sl_block_info info = {.struct_size = sizeof info};
		sl_parameter w = {.struct_size = sizeof w}, b = {.struct_size = sizeof b};
		sl_pattern_arrays a;
		OK(sl_model_get_block(context, model, i, &info));
		OK(sl_layer_parameter(context, sl_model_layer(model, i), 0, &w));
		OK(sl_layer_parameter(context, sl_model_layer(model, i), 1, &b));
		OK(sl_pattern_get(context, w.pattern, &a));
		for (int64_t r = 0, k = 0; r < a.rows; r++) {
			int64_t row = info.first_row + r, end = a.offset_dtype == SL_I32 ? ((const int32_t *)a.row_offsets)[r + 1]
																			 : ((const int64_t *)a.row_offsets)[r + 1];
			CHECK(fabs(at(b.gradient, r, dtype) - factor * (info.layer ? ref_db2[row] : ref_db1[row])) <= bound(dtype));
			for (; k < end; k++) {
				double expected = info.layer ? ref_dw2[row][a.col_indices[k]] : ref_dw1[row][a.col_indices[k]];
				CHECK(info.layer ? has2[row][a.col_indices[k]] : has1[row][a.col_indices[k]]);
				CHECK(fabs(at(w.gradient, k, dtype) - factor * expected) <= bound(dtype));
			}
		}
	}
}

static uint64_t hash(uint64_t seed, const void *data, size_t bytes) {
	const unsigned char *p = data;
	for (size_t i = 0; i < bytes; i++)
		seed = (seed ^ p[i]) * 1099511628211u;
	return seed;
}

/* Forward, dX, dW and db; prints what must be the same on any number of ranks. */
static void products(sl_dtype dtype, int64_t blocks) {
	char x[BATCH * IN * 8], y[BATCH * OUT * 8], dy[BATCH * OUT * 8], dx[BATCH * IN * 8];
	sl_model *model = build(dtype, comm, blocks);
	fill(x, &reference_x[0][0], BATCH * IN, dtype);
	fill(dy, &reference_dy[0][0], BATCH * OUT, dtype);
	sl_dense X = sl_dense_view(x, dtype, BATCH, IN), Y = sl_dense_view(y, dtype, BATCH, OUT);
	sl_dense dY = sl_dense_view(dy, dtype, BATCH, OUT), dX = sl_dense_view(dx, dtype, BATCH, IN);
	OK(sl_model_forward(context, model, &X, &Y, SL_MODE_INFERENCE));
	CHECK(worst(y, &ref_y[0][0], BATCH * OUT, dtype) <= bound(dtype));
	OK(sl_model_forward(context, model, &X, &Y, SL_MODE_TRAINING));
	CHECK(worst(y, &ref_y[0][0], BATCH * OUT, dtype) <= bound(dtype));
	OK(sl_model_backward(context, model, &dY, &dX, SL_OVERWRITE));
	CHECK(worst(dx, &ref_dx[0][0], BATCH * IN, dtype) <= bound(dtype));
	check_gradients(model, dtype, 1);
	OK(sl_model_forward(context, model, &X, &Y, SL_MODE_TRAINING));
	OK(sl_model_backward(context, model, &dY, NULL, SL_ACCUMULATE));
	check_gradients(model, dtype, 2);
	uint64_t seen = hash(hash(7, y, BATCH * OUT * sl_dtype_size(dtype)), dx, BATCH * IN * sl_dtype_size(dtype));
	OK(sl_comm_agree(context, comm, "outputs and dX", seen));
	if (rank == 0 && blocks > 4)
		printf("%s %lld %llx\n", sl_dtype_name(dtype), (long long)blocks, (unsigned long long)seen);
	/* The whole in one process rounds in another order. */
	sl_model *whole = build(dtype, NULL, 0);
	char y2[BATCH * OUT * 8];
	sl_dense Y2 = sl_dense_view(y2, dtype, BATCH, OUT);
	OK(sl_model_forward(context, whole, &X, &Y2, SL_MODE_INFERENCE));
	for (int64_t i = 0; i < BATCH * OUT; i++)
		CHECK(fabs(at(y2, i, dtype) - at(y, i, dtype)) <= bound(dtype));
	sl_model_destroy(whole);
	sl_model_destroy(model);
}

static void refusals(void) {
	sl_model *model;
	sl_linear_options o = {SL_LINEAR_DEFAULTS, .in_features = 8, .out_features = 8, .density = 0.5};
	OK(sl_model_create(&model, context));
	if (size > 1) {
		CHECK(sl_model_add_divided(context, model, comm, &o, size - 1) == SL_ERR_ARGUMENT);
		/* One rank has blocks of other inputs. */
		sl_layer *block;
		o.in_features = rank == size - 1 ? 9 : 8;
		OK(sl_linear_create(&block, context, &o));
		CHECK(sl_model_add_blocks(context, model, comm, &block, 1) == SL_ERR_DISAGREE);
		char text[32];
		snprintf(text, sizeof text, "rank %d of", size - 1);
		CHECK(strstr(sl_context_message(context), text) && strstr(sl_context_message(context), "in_features"));
		sl_layer_destroy(block);
		o.in_features = 8;
		CHECK(sl_model_add_divided(context, model, comm, &o, rank == size - 1 ? size : size + 1) == SL_ERR_DISAGREE);
	}
	o.sparse_inputs = true;
	CHECK(sl_model_add_divided(context, model, comm, &o, 0) == SL_ERR_UNSUPPORTED);
	o.sparse_inputs = false;
	OK(sl_model_add_divided(context, model, comm, &o, 0));
	CHECK(sl_model_save(context, model, NULL, NULL, "/nowhere") == SL_ERR_UNSUPPORTED);
	CHECK(sl_model_compact(context, model, NULL, NULL) == SL_ERR_UNSUPPORTED);
	sl_model_destroy(model);
}

/* Blocks that each rank makes by itself; the last rank's has no rows. */
static void own_blocks(void) {
	sl_model *model;
	sl_layer *block;
	int64_t rows = rank == size - 1 && size > 1 ? 0 : 3 + rank;
	OK(sl_model_create(&model, context));
	OK(sl_linear_create(&block, context,
						&(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = 4, .out_features = rows,
											 .density = rows ? 0.5 : 1, .stream = (uint64_t)rank}));
	OK(sl_model_add_blocks(context, model, comm, &block, 1));
	sl_block_info info = {.struct_size = sizeof info};
	OK(sl_model_get_block(context, model, 0, &info));
	int64_t before = 0, all = 0;
	for (int r = 0; r < size; r++) {
		int64_t n = r == size - 1 && size > 1 ? 0 : 3 + r;
		before += r < rank ? n : 0;
		all += n;
	}
	CHECK(info.first_row == before && info.out_features == all && info.blocks == size && info.block == rank);
	float x[2 * 4], y[2 * 64], dy[2 * 64], dx[2 * 4];
	for (int i = 0; i < 8; i++)
		x[i] = (float)(i + 1);
	for (int64_t i = 0; i < 2 * all; i++)
		dy[i] = 1;
	sl_dense X = sl_dense_view(x, SL_F32, 2, 4), Y = sl_dense_view(y, SL_F32, 2, all);
	sl_dense dY = sl_dense_view(dy, SL_F32, 2, all), dX = sl_dense_view(dx, SL_F32, 2, 4);
	OK(sl_model_forward(context, model, &X, &Y, SL_MODE_TRAINING));
	OK(sl_model_backward(context, model, &dY, &dX, SL_OVERWRITE));
	OK(sl_comm_agree(context, comm, "outputs", hash(hash(1, y, (size_t)(2 * all) * 4), dx, sizeof dx)));
	sl_model_destroy(model);
}

/* Groups of a row and a column of ranks. */
static void groups(void) {
	sl_comm *pair, *rest;
	OK(sl_comm_split(&pair, context, comm, rank / 2, 0));
	OK(sl_comm_split(&rest, context, comm, rank % 2, -rank));
	CHECK(sl_comm_rank(pair) == rank % 2 && sl_comm_size(pair) == (rank / 2 * 2 + 1 < size ? 2 : 1));
	int mates = size / 2 + (rank % 2 == 0 && size % 2);
	CHECK(sl_comm_size(rest) == mates && sl_comm_rank(rest) == mates - 1 - rank / 2);
	int64_t sum = rank;
	OK(sl_comm_all_reduce(context, rest, &sum, &sum, 1, SL_I64, SL_COMM_SUM, SL_COMM_ON_HOST, NULL));
	CHECK(sum == mates * (mates - 1) + mates * (rank % 2));
	sl_comm_destroy(rest);
	sl_comm_destroy(pair);
	CHECK(sl_comm_split(&pair, context, comm, -1, 0) == SL_ERR_ARGUMENT && !pair);
	OK(sl_comm_split(&rest, context, comm, 0, 0));
	CHECK(sl_comm_rank(rest) == rank);
	sl_comm_destroy(rest);
}

void test_divided(int argc, char **argv) {
	(void)argc, (void)argv;
	make_weights();
	reference();
	products(SL_F32, BLOCKS);
	products(SL_F64, BLOCKS);
	products(SL_F32, 40); /* more than rows have: some have none */
	products(SL_F32, size);
	refusals();
	own_blocks();
	groups();
}
