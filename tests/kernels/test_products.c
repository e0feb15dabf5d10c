/* SPDX-License-Identifier: Apache-2.0 */
/* Every row of kernels.def against a double reference. Bound: (count + 4) * eps * sum |a||b|, plus
 * one rounding to storage. Rows whose instructions this machine lacks are named. */
#include <float.h>

#include "support/check.h"

#include "cpu/activation.h"
#include "cpu/cpu.h"

extern const int test_simde;
void test_spmm_f32_simde(const sl_spmm_task *t);
void test_sddmm_f32_simde(const sl_sddmm_task *t);
extern const sl_small_kernel test_small_simde[7];
extern const sl_kernel test_half_simde[6];

enum { ROWS = 9, COLS = 70, GUARD = 64 };

/* Entries: `full` all of them, else about one in three; row 4 is always empty, row 5 has one. */
static int64_t build(int64_t *offsets, int32_t *columns, bool full) {
	int64_t n = 0;
	for (int r = 0; r < ROWS; r++) {
		offsets[r] = n;
		for (int c = 0; c < COLS; c++)
			if (r == 5 ? c == 69 : r != 4 && (full || (r * 31 + c * 17) % 3 == 0))
				columns[n++] = c;
	}
	return offsets[ROWS] = n;
}

static double epsilon(sl_dtype dtype) {
	return dtype == SL_F64 ? 2.3e-16 : 1.2e-7;
}

static double storage(sl_dtype dtype) {
	return dtype == SL_BF16 ? 4e-3 : dtype == SL_F16 ? 5e-4 : 0;
}

/* With a guard behind it. */
static void *guarded(size_t bytes) {
	char *p = malloc(bytes + GUARD);
	CHECK(p);
	memset(p, 0x5a, bytes + GUARD);
	return p;
}

static void check_guard(const void *data, size_t bytes) {
	for (size_t i = 0; i < GUARD; i++)
		CHECK_EQ(((const unsigned char *)data)[bytes + i], 0x5a);
}

static void try_spmm(const sl_kernel *k, int64_t width, bool full, double alpha, double beta) {
	int64_t offsets[ROWS + 1], ldx = width + 3, ldy = width + 5;
	static int32_t columns[ROWS * COLS];
	int64_t nnz = build(offsets, columns, full);
	size_t size = sl_dtype_size(k->dtype), bytes = (size_t)(ROWS * ldy) * size;
	char *values = malloc((size_t)nnz * size), *x = malloc((size_t)(COLS * ldx) * size), *before = malloc(bytes);
	char *y = guarded(bytes);
	CHECK(values && x && before);
	sl_test_fill(values, k->dtype, nnz, 1);
	sl_test_fill(x, k->dtype, COLS * ldx, 2);
	sl_test_fill(y, k->dtype, ROWS * ldy, 3);
	if (beta == 0) /* the old content must not be read */
		memset(y, 0xff, bytes);
	memcpy(before, y, bytes);
	sl_spmm_task t = {.starts = offsets,
					  .ends = offsets + 1,
					  .offset_dtype = SL_I64,
					  .columns = columns,
					  .values = values,
					  .x = x,
					  .y = y,
					  .ldx = ldx,
					  .ldy = ldy,
					  .begin = 1,
					  .end = ROWS,
					  .width = width,
					  .alpha = alpha,
					  .beta = beta};
	k->spmm(&t);
	for (int64_t r = 0; r < ROWS; r++)
		for (int64_t c = 0; c < ldy; c++) {
			size_t at = (size_t)(r * ldy + c);
			if (r == 0 || c >= width) {
				CHECK(!memcmp(y + at * size, before + at * size, size));
				continue;
			}
			double sum = 0, mass = 0;
			for (int64_t e = offsets[r]; e < offsets[r + 1]; e++) {
				double p = sli_load(values, k->dtype, e) * sli_load(x, k->dtype, columns[e] * ldx + c);
				sum += p;
				mass += fabs(p);
			}
			double old = beta == 0 ? 0 : beta * sli_load(before, k->dtype, (int64_t)at);
			double count = (double)(offsets[r + 1] - offsets[r]), want = alpha * sum + old;
			CHECK_NEAR(sli_load(y, k->dtype, (int64_t)at), want,
					   (count + 4) * epsilon(k->dtype) * (fabs(alpha) * mass + fabs(old)) +
						   storage(k->dtype) * fabs(want) + (k->dtype == SL_F16 ? 6e-8 : 0));
		}
	check_guard(y, bytes);
	free(values);
	free(x);
	free(before);
	free(y);
}

/* n columns in panels of ld, the padding zero. */
static char *panels(sl_dtype dtype, int64_t rows, int64_t n, int64_t ld, uint64_t seed) {
	int64_t count = (n + ld - 1) / ld * ld * rows;
	char *data = malloc((size_t)count * sl_dtype_size(dtype) + 1);
	CHECK(data);
	sl_test_fill(data, dtype, count, seed);
	for (int64_t r = 0; r < rows; r++)
		for (int64_t c = n; c < (n + ld - 1) / ld * ld; c++)
			sli_store(data, dtype, c / ld * rows * ld + r * ld + c % ld, 0);
	return data;
}

static void try_sddmm(const sl_kernel *k, int64_t n, int64_t ld, bool full, double alpha, double beta) {
	int64_t offsets[ROWS + 1];
	static int32_t columns[ROWS * COLS];
	int64_t nnz = build(offsets, columns, full);
	size_t size = sl_dtype_size(k->dtype), bytes = (size_t)nnz * size;
	char *a = panels(k->dtype, ROWS, n, ld, 4), *b = panels(k->dtype, COLS, n, ld, 5);
	char *out = guarded(bytes), *before = malloc(bytes);
	CHECK(before);
	sl_test_fill(out, k->dtype, nnz, 6);
	if (beta == 0)
		memset(out, 0xff, bytes);
	memcpy(before, out, bytes);
	sl_sddmm_task t = {.starts = offsets,
					   .ends = offsets + 1,
					   .offset_dtype = SL_I64,
					   .columns = columns,
					   .values = out,
					   .a = a,
					   .b = b,
					   .a_rows = ROWS,
					   .b_rows = COLS,
					   .ld = ld,
					   .n = n,
					   .begin = 0,
					   .end = ROWS - 1,
					   .alpha = alpha,
					   .beta = beta};
	k->sddmm(&t);
	for (int64_t r = 0; r < ROWS; r++)
		for (int64_t e = offsets[r]; e < offsets[r + 1]; e++) {
			if (r == ROWS - 1) {
				CHECK(!memcmp(out + (size_t)e * size, before + (size_t)e * size, size));
				continue;
			}
			double sum = 0, mass = 0;
			for (int64_t c = 0; c < n; c++) {
				double p = sli_load(a, k->dtype, c / ld * ROWS * ld + r * ld + c % ld) *
						   sli_load(b, k->dtype, c / ld * COLS * ld + columns[e] * ld + c % ld);
				sum += p;
				mass += fabs(p);
			}
			double old = beta == 0 ? 0 : beta * sli_load(before, k->dtype, e), want = alpha * sum + old;
			CHECK_NEAR(sli_load(out, k->dtype, e), want,
					   ((double)n + 4) * epsilon(k->dtype) * (fabs(alpha) * mass + fabs(old)) +
						   storage(k->dtype) * fabs(want) + (k->dtype == SL_F16 ? 6e-8 : 0));
		}
	check_guard(out, bytes);
	free(a);
	free(b);
	free(out);
	free(before);
}

/* Entries for the products of few columns: `most` a row, for the group's edges; row 4 empty, row 5 one. */
static int64_t build_rows(int64_t *offsets, int32_t *columns, int64_t most) {
	int64_t n = 0;
	for (int r = 0; r < ROWS; r++) {
		int64_t wanted = r == 4 ? 0 : r == 5 ? 1 : (most + r) % (COLS + 1);
		offsets[r] = n;
		for (int64_t i = 0; i < wanted; i++)
			columns[n++] = (int32_t)(i * COLS / wanted);
	}
	return offsets[ROWS] = n;
}

typedef struct small_case {
	int64_t most;
	double alpha, beta;
	bool narrow, short_rows, wide_offsets;
} small_case;

/* Memory that ends with a guard and begins off the alignment of a vector. */
static float *shifted(char **memory, int64_t count, uint64_t seed) {
	*memory = guarded((size_t)count * 4 + 4);
	float *data = (float *)(void *)(*memory + 4);
	sl_test_fill(data, SL_F32, count, seed);
	return data;
}

static void check_small(const sl_kernel *k, const small_case *c, const sl_small_task *t, const int64_t *offsets,
						const float *before) {
	enum { DX = 1, SAMPLE = 2 };
	int64_t w = k->tile, nnz = offsets[ROWS];
	int op = k->kind == SL_OP_SDDMM ? SAMPLE : k->transposed ? DX : 0;
	int64_t count = op == SAMPLE ? nnz : op == DX ? COLS : ROWS;
	double *sum = calloc((size_t)(count * w) + 1, 2 * sizeof *sum), *mass = sum + count * w;
	const float *values = t->values, *got = op == SAMPLE ? t->values_out : t->y;
	CHECK(sum);
	for (int64_t r = t->begin; r < t->end; r++)
		for (int64_t e = offsets[r]; e < offsets[r + 1]; e++)
			for (int64_t i = 0; i < w; i++) {
				int64_t column = t->columns[e], at = op == SAMPLE ? e : op == DX ? column * w + i : r * w + i;
				double p = op == SAMPLE ? (double)t->y[r] * t->x[column]
						   : op == DX   ? (double)values[e] * t->x[r * w + i]
										: (double)values[e] * t->x[column * w + i];
				sum[at] += c->alpha * p;
				mass[at] += fabs(c->alpha * p);
			}
	for (int64_t at = 0; at < count * w; at++) {
		int64_t r = op == 0 ? at / w : 0;
		bool mine =
			op == SAMPLE ? at >= offsets[t->begin] && at < offsets[t->end] : op == DX || (r >= t->begin && r < t->end);
		double old = op == DX ? before[at] : c->beta == 0 ? 0 : c->beta * before[at];
		if (!mine)
			CHECK(!memcmp(&got[at], &before[at], sizeof *got));
		else
			CHECK_NEAR(got[at], sum[at] + old, (COLS + 4) * FLT_EPSILON * (mass[at] + fabs(old)));
	}
	free(sum);
}

static void try_small(const sl_kernel *k, const small_case *c) {
	int64_t offsets[ROWS + 1], w = k->tile;
	int32_t offsets32[ROWS + 1], columns[ROWS * COLS];
	enum { WORDS = (COLS + 15) / 16 };
	uint16_t narrow[ROWS * COLS], masks[ROWS * WORDS] = {0};
	int64_t nnz = build_rows(offsets, columns, c->most);
	bool dx = k->transposed, sample = k->kind == SL_OP_SDDMM;
	int64_t xs = (dx ? ROWS : COLS) * w, ys = (dx ? COLS : ROWS) * w;
	char *memory[4];
	float *values = shifted(&memory[0], nnz, 1), *x = shifted(&memory[1], xs, 2), *y = shifted(&memory[2], ys, 3);
	float *out = shifted(&memory[3], nnz, 4), before[COLS * 16 + ROWS * COLS];
	for (int64_t k1 = 0; k1 < nnz; k1++)
		narrow[k1] = (uint16_t)columns[k1];
	for (int r = 0; r <= ROWS; r++)
		offsets32[r] = (int32_t)offsets[r];
	for (int64_t r = 0; r < ROWS; r++)
		for (int64_t e = offsets[r]; e < offsets[r + 1]; e++)
			masks[r * WORDS + columns[e] / 16] |= (uint16_t)(1u << columns[e] % 16);
	if (c->beta == 0 && !dx) /* the old content must not be read */
		sample ? memset(out, 0xff, (size_t)nnz * 4) : memset(y, 0xff, (size_t)ys * 4);
	memcpy(before, sample ? out : y, (size_t)(sample ? nnz : ys) * 4);
	sl_small_task t = {.offsets = c->wide_offsets ? (const void *)offsets : (const void *)offsets32,
					   .offset_dtype = c->wide_offsets ? SL_I64 : SL_I32,
					   .columns = columns,
					   .narrow = c->narrow ? narrow : NULL,
					   .values = values,
					   .values_out = out,
					   .x = x,
					   .y = y,
					   .begin = 1,
					   .end = ROWS - 1,
					   .alpha = (float)c->alpha,
					   .beta = (float)c->beta,
					   .masks = masks,
					   .words = WORDS,
					   .cols = COLS,
					   .nnz = nnz,
					   .short_rows = c->short_rows};
	if (sample) /* A's column is the panel of rows */
		sl_test_fill(y, SL_F32, ys, 3);
	k->small(&t);
	check_small(k, c, &t, offsets, before);
	check_guard(y, (size_t)ys * 4);
	check_guard(out, (size_t)nnz * 4);
	for (int i = 0; i < 4; i++)
		free(memory[i]);
}

static void try_small_kernel(const sl_kernel *k) {
	static const double scale[][2] = {{1, 0}, {1, 1}, {-0.5, 2}, {0, 1}};
	static const int64_t most[] = {0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 70};
	for (int s = 0; s < 4; s++)
		for (size_t m = 0; m < sizeof most / sizeof *most; m++)
			for (int flags = 0; flags < 8; flags++)
				try_small(k, &(small_case){most[m], scale[s][0], scale[s][1], flags & 1, flags & 2, flags & 4});
}

/* Every value of a 16-bit dtype to f32, and f32 around each of them back, against the scalar rows. */
static void try_half(const sl_kernel *k) {
	enum { ALL = 1 << 16 };
	static uint16_t half[ALL + 1], back[ALL + 1];
	static float wide[ALL + 1];
	const sl_cpu scalar = {.isa = SL_ISA_SCALAR};
	const sl_kernel *one = sli_cpu_choose(&scalar, SL_OP_CONVERT, k->dtype, NULL);
	static const int64_t counts[] = {0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, ALL};
	for (int i = 0; i <= ALL; i++)
		half[i] = (uint16_t)i;
	for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
		int64_t n = counts[c];
		memset(wide, 0x5a, sizeof wide);
		memset(back, 0x5a, sizeof back);
		k->to_f32(half + (n < ALL ? 0x3f80 : 0), wide, n);
		for (int64_t i = 0; i < n; i++) {
			float want;
			one->to_f32(half + (n < ALL ? 0x3f80 : 0) + i, &want, 1);
			CHECK(isnan(want) ? isnan(wide[i]) : !memcmp(&wide[i], &want, 4));
		}
		CHECK_EQ(((unsigned char *)&wide[n])[0], 0x5a);
		k->from_f32(wide, back, n);
		for (int64_t i = 0; i < n; i++)
			CHECK(isnan(wide[i]) ? back[i] != 0 : back[i] == half[(n < ALL ? 0x3f80 : 0) + i]);
		CHECK_EQ(back[n], 0x5a5a);
	}
	/* Ties, just beside them, overflow, NaN. */
	for (uint32_t i = 0; i < ALL; i++)
		for (int off = -1; off < 2; off++) {
			uint32_t bits = (i << 16) + (k->dtype == SL_BF16 ? 0x8000u : (i & 1) << 13 | 0x1000u) + (uint32_t)off;
			uint16_t want, got;
			float x;
			memcpy(&x, &bits, sizeof x);
			one->from_f32(&x, &want, 1);
			k->from_f32(&x, &got, 1);
			CHECK_EQ(got, want);
		}
}

static void try_math(const sl_kernel *k) {
	enum { MOST = 1003 };
	static const int64_t counts[] = {0, 1, 7, 8, 15, 16, 17, 255, 256, 257, MOST};
	static const float special[] = {0,  -0.0f, INFINITY, -INFINITY, NAN,    1e-45f, -1e-45f,
									90, -90,   13,       -13,       0.625f, 3e38f};
	static float x[MOST + 1], dy[MOST + 1], y[MOST + 1], back[MOST + 1], first[MOST + 1];
	const sl_cpu scalar = {.isa = SL_ISA_SCALAR};
	const sl_kernel *one = sli_cpu_choose(&scalar, SL_OP_ACTIVATION, SL_F32, NULL);
	const double eps = 0x1p-24;
	for (int range = 0; range < 3; range++)
		for (int kind = SL_IDENTITY; kind <= SL_GELU; kind++)
			for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
				int64_t n = counts[c];
				float p = kind == SL_CLIPPED_RELU ? 0.5f : kind == SL_LEAKY_RELU ? 0.1f : 0;
				sl_test_fill(x, SL_F32, MOST + 1, (uint64_t)(kind + 1));
				sl_test_fill(dy, SL_F32, MOST + 1, 9);
				for (int64_t i = 0; i < n; i++)
					x[i] *= range == 0 ? 1.0f : range == 1 ? 12.0f : 1e-3f;
				for (int64_t i = 0; n == MOST && i < (int64_t)(sizeof special / sizeof *special); i++)
					x[i] = special[i];
				y[n] = back[n] = 77;
				k->activate((sl_activation)kind, p, x, y, n);
				k->activate_back((sl_activation)kind, p, sl_activation_saves_input(kind) ? x : y, dy, back, n);
				CHECK(y[n] == 77 && back[n] == 77);
				one->activate((sl_activation)kind, p, x, first, n);
				for (int64_t i = 0; i < n; i++) { /* the same bits from every instruction set, NaN's own apart */
					CHECK(isnan(x[i]) ? isnan(y[i]) && isnan(first[i]) : !memcmp(&first[i], &y[i], 4));
					double X = x[i], want = sli_act_f64((sl_activation)kind, p, X), t = eps * fabs(want);
					if (kind == SL_GELU)
						want = X < -30 ? 0 : X * 0.5 * erfc(-X * 0.70710678118654752440);
					double bound = kind == SL_SIGMOID || kind == SL_TANH ? 6 * t + 1e-44
								   : kind == SL_GELU ? (8 + fmin(X * X, 1e6)) * eps * fabs(want) + 2e-36
													 : t + 1e-44;
					if (!isnan(X) && isfinite(want))
						CHECK_NEAR(y[i], want, bound);
					double saved = sl_activation_saves_input(kind) ? X : (double)y[i];
					double slope = sli_act_back_f64((sl_activation)kind, p, saved, dy[i]);
					if (isfinite(X) && isfinite(slope))
						CHECK_NEAR(back[i], slope, 24 * eps * fmax(fabs(slope), fabs((double)dy[i])));
				}
				memcpy(first, x, sizeof first); /* in place */
				k->activate((sl_activation)kind, p, first, first, n);
				for (int64_t i = 0; i < n; i++)
					CHECK(isnan(y[i]) ? isnan(first[i]) : !memcmp(&first[i], &y[i], 4));
				memcpy(first, dy, sizeof first);
				k->activate_back((sl_activation)kind, p, sl_activation_saves_input(kind) ? x : y, first, first, n);
				for (int64_t i = 0; i < n; i++)
					CHECK(isnan(back[i]) ? isnan(first[i]) : !memcmp(&first[i], &back[i], 4));
			}
	for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
		double sum = 0;
		sl_test_fill(x, SL_F32, MOST, 3);
		for (int64_t i = 0; i < counts[c]; i++)
			sum += pow(0.5 * fmin(fmax(x[i], -0.25), 0.25), 2);
		CHECK_NEAR(k->sum_squares(x, counts[c], 0.5, 0.25f), sum, 1e-12 * sum);
		CHECK(k->sum_squares(x, counts[c], 0.5, 0.25f) == one->sum_squares(x, counts[c], 0.5, 0.25f));
		x[0] = NAN;
		CHECK(counts[c] == 0 || isnan(k->sum_squares(x, counts[c], 1, INFINITY)));
	}
}

/* Softmax and sigmoids of `n` samples side by side against double, and against the first row's bits. */
static void try_loss_kernel(const sl_kernel *k, bool softmax, int64_t n, int64_t features, float range) {
	enum { LD = SL_LOSS_COLUMNS + 3 };
	const sl_cpu scalar = {.isa = SL_ISA_SCALAR};
	const sl_kernel *one = sli_cpu_choose(&scalar, SL_OP_ACTIVATION, SL_F32, NULL);
	size_t size = (size_t)(features * LD) * sizeof(float);
	float *x = malloc(size), *g = malloc(size), *other = malloc(size);
	sl_test_fill(x, SL_F32, features * LD, (uint64_t)(n + features));
	for (int64_t i = 0; i < features * LD; i++)
		x[i] *= range, g[i] = other[i] = 77;
	sl_loss_task task = {.x = x, .ldx = LD, .features = features, .n = n, .gradient = g, .ldg = LD};
	for (int64_t i = 0; i < n; i++)
		task.scale[i] = 0.5f + (float)i / 64;
	sl_loss_task first = task, bare = task;
	first.gradient = other;
	bare.gradient = NULL;
	(softmax ? k->softmax : k->sigmoids)(&task);
	(softmax ? k->softmax : k->sigmoids)(&bare);
	(softmax ? one->softmax : one->sigmoids)(&first);
	CHECK(!memcmp(g, other, size) && !memcmp(task.sum, first.sum, sizeof task.sum) &&
		  !memcmp(task.sum, bare.sum, sizeof task.sum));
	for (int64_t i = 0; i < n; i++) {
		double most = -INFINITY, sum = 0, logs = 0;
		int64_t best = 0, correct = 0;
		for (int64_t r = 0; r < features; r++) {
			double X = x[r * LD + i];
			if (X > most)
				most = X, best = r;
			logs += X > 0 ? X + log1p(exp(-X)) : log1p(exp(X));
			correct += X <= 0;
		}
		for (int64_t r = 0; r < features; r++)
			sum += exp(x[r * LD + i] - most);
		const double eps = 0x1p-24, scale = task.scale[i];
		if (softmax) {
			CHECK(task.most[i] == (float)most && task.best[i] == best && !task.nan[i]);
			CHECK_NEAR(task.sum[i], sum, (8 + 2.0 * range) * eps * sum);
		} else {
			CHECK_EQ(task.correct[i], correct);
			CHECK_NEAR(task.sum[i], logs, 4 * eps * logs + (double)features * 0x1p-52); /* 1 + e */
		}
		for (int64_t r = 0; r < features; r++) {
			double X = x[r * LD + i], want = scale * (softmax ? exp(X - most) / sum : 1 / (1 + exp(-X)));
			CHECK_NEAR(g[r * LD + i], want, (softmax ? 16 + 4.0 * range : 8) * eps * want + 1e-44);
		}
	}
	for (int64_t r = 0; r < features; r++)
		for (int64_t i = n; i < LD; i++)
			CHECK(g[r * LD + i] == 77);
	x[n - 1] = NAN;
	(softmax ? k->softmax : k->sigmoids)(&task);
	CHECK(isnan(task.sum[n - 1]) && (n == 1 || isfinite(task.sum[0])));
	CHECK(!softmax || task.nan[n - 1]);
	free(x);
	free(g);
	free(other);
}

static void try_losses(const sl_kernel *k) {
	static const int64_t counts[] = {1, 15, 16, 17, 63, 64}, features[] = {1, 2, 10, 511, 512, 513, 1025};
	static const float ranges[] = {1, 30, 300};
	for (int softmax = 0; softmax < 2; softmax++)
		for (size_t n = 0; n < sizeof counts / sizeof *counts; n++)
			for (size_t f = 0; f < sizeof features / sizeof *features; f++)
				for (int range = 0; range < 3; range++)
					try_loss_kernel(k, softmax, counts[n], features[f], ranges[range]);
}

static void try_kernel(const sl_kernel *k) {
	if (k->softmax)
		try_losses(k);
	if (k->to_f32)
		try_half(k);
	if (k->activate)
		try_math(k);
	if (k->small) {
		try_small_kernel(k);
		return;
	}
	static const double scale[][2] = {{1, 0}, {1, 1}, {-0.5, 2}, {0, 1}};
	static const int64_t widths[] = {1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64};
	static const int64_t batches[] = {0, 1, 15, 16, 17, 63, 64, 65, 130}, lds[] = {8, 16, 32, 64, 5};
	for (int s = 0; s < 4; s++)
		for (int full = 0; full < 2; full++) {
			for (size_t w = 0; k->spmm && w < sizeof widths / sizeof *widths; w++)
				try_spmm(k, widths[w], full, scale[s][0], scale[s][1]);
			for (size_t n = 0; k->sddmm && n < sizeof batches / sizeof *batches; n++)
				for (size_t l = 0; l < sizeof lds / sizeof *lds; l++)
					try_sddmm(k, batches[n], lds[l], full, scale[s][0], scale[s][1]);
		}
}

SL_TEST(kernels, every_row_of_the_table) {
	int count = 0;
	const sl_kernel *k = sli_cpu_kernels(&count);
	CHECK(count > 0);
	for (int i = 0; i < count; i++)
		if (sli_cpu_has(k[i].isa))
			try_kernel(&k[i]);
		else
			fprintf(stderr, "skipped: %s, this machine has no %s\n", k[i].name, sli_isa_name(k[i].isa));
}

SL_TEST(kernels, avx512_emulated) {
	if (!test_simde)
		sl_test_skip("SIMDe (libsimde-dev) is not installed");
	sl_kernel spmm = {.dtype = SL_F32, .tile = 64, .name = "spmm_f32_simde", .spmm = test_spmm_f32_simde};
	sl_kernel sddmm = {.dtype = SL_F32, .name = "sddmm_f32_simde", .sddmm = test_sddmm_f32_simde};
	try_kernel(&spmm);
	try_kernel(&sddmm);
	for (int i = 0; i < 7; i++) { /* of one column, of sixteen, masked */
		sl_kernel small = {.kind = i == 2 || i == 6 ? SL_OP_SDDMM : SL_OP_SPMM,
						   .dtype = SL_F32,
						   .tile = i == 3 || i == 4 ? 16 : 1,
						   .name = "small_simde",
						   .small = test_small_simde[i],
						   .masked = i > 4,
						   .transposed = i == 1 || i == 4 || i == 5};
		try_kernel(&small);
	}
	for (int i = 0; i < 6; i++)
		try_kernel(&test_half_simde[i]);
}

/* An optimizer's step in double, element by element. */
static double reference_update(const sl_update *u, int kind, double w, double g, double *m, double *v) {
	double x = u->clip_value > 0 ? fmin(fmax(g, -u->clip_value), u->clip_value) : g;
	x = x * u->gradient_factor + u->l1 * ((w > 0) - (w < 0)) + u->l2 * w;
	if (kind == SL_SGD) {
		w -= u->learning_rate * x;
	} else if (kind == SL_MOMENTUM || kind == SL_NESTEROV) {
		*m = u->momentum * *m + x;
		w -= u->learning_rate * (kind == SL_NESTEROV ? x + u->momentum * *m : *m);
	} else {
		*m = u->beta1 * *m + (1 - u->beta1) * x;
		*v = u->beta2 * *v + (1 - u->beta2) * x * x;
		w *= kind == SL_ADAMW ? 1 - u->learning_rate * u->weight_decay : 1;
		w -= u->learning_rate * (*m / u->correction1) / (sqrt(*v / u->correction2) + u->epsilon);
	}
	double threshold = u->learning_rate * u->l1_proximal;
	return fabs(w) <= threshold ? 0 : w > 0 ? w - threshold : w + threshold;
}

enum { MOST = 1003 };

/* Bound: 16 eps of what goes into a weight: itself, and a step of at most lr * 12. */
static void try_update(const sl_kernel *k, int kind, int64_t n, bool extras) {
	static double given[4][MOST + 1], state[4][MOST + 1];
	sl_update u = {.learning_rate = 0.01,
				   .momentum = 0.9,
				   .beta1 = 0.9,
				   .beta2 = 0.999,
				   .epsilon = 1e-8,
				   .correction1 = 1 - 0.9 * 0.9,
				   .correction2 = 1 - 0.999 * 0.999,
				   .gradient_factor = 1};
	if (extras) {
		u.l1 = 0.01;
		u.l2 = 0.02;
		u.l1_proximal = 0.5;
		u.weight_decay = 0.1;
		u.clip_value = 0.6;
		u.gradient_factor = 0.25;
	}
	for (int i = 0; i < 4; i++) {
		sl_test_fill(state[i], k->dtype, MOST + 1, (uint64_t)(7 * i + kind + 1));
		for (int64_t e = 0; e <= MOST; e++) /* the second moment is a mean of squares */
			given[i][e] = i == 3 ? fabs(sli_load(state[i], k->dtype, e)) : sli_load(state[i], k->dtype, e);
		for (int64_t e = 0; i == 3 && e <= MOST; e++)
			sli_store(state[i], k->dtype, e, given[i][e]);
	}
	k->update(&u, kind, state[0], state[1], kind == SL_SGD ? NULL : state[2], kind < SL_ADAM ? NULL : state[3], n);
	double eps = k->dtype == SL_F64 ? DBL_EPSILON : FLT_EPSILON;
	for (int64_t e = 0; e < n; e++) {
		double m = given[2][e], v = given[3][e], w = reference_update(&u, kind, given[0][e], given[1][e], &m, &v);
		CHECK_NEAR(sli_load(state[0], k->dtype, e), w, 16 * eps * (fabs(given[0][e]) + 12 * u.learning_rate));
		if (kind != SL_SGD)
			CHECK_NEAR(sli_load(state[2], k->dtype, e), m, 16 * eps);
		if (kind >= SL_ADAM)
			CHECK_NEAR(sli_load(state[3], k->dtype, e), v, 16 * eps);
		CHECK(sli_load(state[1], k->dtype, e) == given[1][e]);
	}
	for (int i = 0; i < 4; i++)
		CHECK(sli_load(state[i], k->dtype, n) == given[i][n]);
}

SL_TEST(kernels, updates) {
	static const int64_t counts[] = {0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 1000, MOST};
	int count = 0;
	const sl_kernel *k = sli_cpu_kernels(&count);
	for (int i = 0; i < count; i++)
		for (int kind = SL_SGD; k[i].update && sli_cpu_has(k[i].isa) && kind <= SL_ADAMW; kind++)
			for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
				for (int extras = 0; extras < 2; extras++)
					try_update(&k[i], kind, counts[c], extras);
}

/* No product is fused with a sum: each instruction set gives the bits of the scalar kernel. */
SL_TEST(kernels, updates_give_the_same_bits) {
	static float first[3][MOST], again[3][MOST], g[MOST];
	int count = 0;
	const sl_kernel *k = sli_cpu_kernels(&count), *scalar = NULL;
	sl_update u = {.learning_rate = 0.01,
				   .momentum = 0.9,
				   .beta1 = 0.9,
				   .beta2 = 0.999,
				   .epsilon = 1e-8,
				   .l2 = 0.1,
				   .correction1 = 0.1,
				   .correction2 = 0.001,
				   .gradient_factor = 1,
				   .l1_proximal = 0.1};
	sl_test_fill(g, SL_F32, MOST, 3);
	for (int i = 0; i < count; i++) {
		if (!k[i].update || k[i].dtype != SL_F32 || !sli_cpu_has(k[i].isa))
			continue;
		for (int kind = SL_SGD; kind <= SL_ADAMW; kind++) {
			float(*to)[MOST] = again;
			const sl_kernel *one = k[i].isa == SL_ISA_SCALAR ? &k[i] : scalar;
			scalar = one;
			for (int run = 0; run < 2; run++, to = first) {
				for (int s = 0; s < 3; s++) {
					sl_test_fill(to[s], SL_F32, MOST, (uint64_t)s + 5);
					for (int e = 0; e < MOST; e++)
						to[s][e] = s == 2 ? fabsf(to[s][e]) : to[s][e];
				}
				(run ? one : &k[i])->update(&u, kind, to[0], g, to[1], to[2], MOST);
			}
			CHECK(!memcmp(first, again, sizeof first));
		}
	}
}
