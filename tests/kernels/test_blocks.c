/* SPDX-License-Identifier: Apache-2.0 */
/* Products over blocks of columns against double: each kernel on a block made by hand, and whole products on both sides
 * of every width at which a matrix is cut. Bound: (count + 4) * eps * sum |a||b|. */
#include <float.h>

#include "support/views.h"

#include "cpu/blocks.h"

void test_blocks_spmm_simde(const sl_block_task *t);
void test_blocks_sddmm_simde(const sl_block_task *t);
extern const int test_blocks_simde;

enum { ROWS = 9, COLS = 37, WIDTH = 8 * SL_VECTOR, GUARD = 16 };

typedef struct block {
	uint16_t narrow[ROWS * COLS];
	uint32_t wide[ROWS * COLS];
	int32_t column[ROWS * COLS];
	sl_block_row row[ROWS + SL_ROWS_AHEAD];
	sl_row_class classes[ROWS];
	int64_t nnz;
} block;

/* Rows 1 to 8, the longest first, each a class of its own; the last is empty. */
static void make_block(block *b, int stride, int64_t longest) {
	b->nnz = 0;
	for (int i = 0; i < ROWS - 1; i++) {
		int64_t length = i == ROWS - 2 ? 0 : longest - i < 0 ? 0 : longest - i;
		b->row[i] = (sl_block_row){(i * 3) % 8 + 1, (int32_t)b->nnz};
		b->classes[i] = (sl_row_class){(int32_t)length, 1};
		for (int64_t e = 0; e < length; e++, b->nnz++) {
			b->column[b->nnz] = (int32_t)(e * COLS / (length + 1) + (i + e) % 2);
			b->wide[b->nnz] = (uint32_t)(b->column[b->nnz] * stride * SL_VECTOR * 4);
			b->narrow[b->nnz] = (uint16_t)b->wide[b->nnz];
		}
	}
}

/* Column c of what lies in panels of four vectors. */
static int64_t place(int64_t r, int64_t c, int64_t panel, int64_t ld) {
	return c / 64 * panel + r * ld + c % 64;
}

static void try_block(sl_block_kernel kernel, sl_op_kind kind, int vectors, bool wide, int64_t longest, double alpha,
					  double beta, bool finish) {
	static block b;
	static float x[2 * (COLS + 1) * 64], y[2 * ROWS * 64 + GUARD], before[2 * ROWS * 64 + GUARD], bias[ROWS];
	static float values[ROWS * COLS + GUARD], old[ROWS * COLS + GUARD], copy[(COLS + 1) * WIDTH];
	const int64_t x_panel = (COLS + 1) * 64, y_panel = ROWS * 64, n = vectors * SL_VECTOR;
	make_block(&b, wide ? 4 : vectors, longest);
	sl_test_fill(x, SL_F32, 2 * x_panel, 1);
	sl_test_fill(y, SL_F32, 2 * y_panel + GUARD, 2);
	sl_test_fill(values, SL_F32, ROWS * COLS + GUARD, 3);
	sl_test_fill(bias, SL_F32, ROWS, 4);
	bool spmm = kind == SL_OP_SPMM;
	if (beta == 0) /* must not be read */
		for (int64_t i = 0; i < (spmm ? 2 * y_panel : b.nnz); i++)
			(spmm ? y : values)[i] = NAN;
	memcpy(before, y, sizeof y);
	memcpy(old, values, sizeof values);
	sl_block_task t = {.x = wide ? (char *)x : (char *)copy,
					   .offsets = wide ? (void *)b.wide : (void *)b.narrow,
					   .wide = wide,
					   .from = wide ? NULL : x,
					   .from_rows = COLS + 1,
					   .from_ld = 64,
					   .from_panel = x_panel,
					   .copy = copy,
					   .stride = vectors,
					   .values = values,
					   .rows = b.row,
					   .classes = b.classes,
					   .classes_end = b.classes + ROWS - 1,
					   .y = y,
					   .ldy = 64,
					   .y_panel = y_panel,
					   .vectors = vectors,
					   .alpha = (float)alpha,
					   .beta = (float)beta,
					   .bias = finish ? bias : NULL,
					   .relu = finish};
	kernel(&t);
	for (int i = 0; i < ROWS - 1; i++)
		for (int64_t e = 0; !spmm && e < b.classes[i].length; e++) {
			double sum = 0, mass = 0;
			int64_t k = b.row[i].start + e;
			for (int64_t c = 0; c < n; c++) {
				double p = (double)y[place(b.row[i].row, c, y_panel, 64)] * x[place(b.column[k], c, x_panel, 64)];
				sum += p, mass += fabs(p);
			}
			double kept = beta == 0 ? 0 : beta * old[k];
			CHECK_NEAR(values[k], alpha * sum + kept, ((double)n + 4) * FLT_EPSILON * (mass + fabs(kept)));
		}
	for (int i = 0; i < ROWS - 1; i++)
		for (int64_t c = 0; spmm && c < n; c++) {
			double sum = 0, mass = 0;
			for (int64_t e = 0; e < b.classes[i].length; e++) {
				int64_t k = b.row[i].start + e;
				double p = (double)values[k] * x[place(b.column[k], c, x_panel, 64)];
				sum += p, mass += fabs(p);
			}
			int64_t at = place(b.row[i].row, c, y_panel, 64);
			double kept = beta == 0 ? 0 : beta * before[at], want = alpha * sum + kept;
			if (finish) {
				want += bias[b.row[i].row];
				want = want < 0 ? 0 : want;
			}
			CHECK_NEAR(y[at], want, (double)(b.classes[i].length + 4) * FLT_EPSILON * (mass + fabs(kept) + 1));
		}
	/* Nothing else was written: row 0, what lies behind the vectors, and behind the entries. */
	for (int64_t r = 0; r < ROWS; r++)
		for (int64_t c = 0; c < WIDTH; c++)
			if (!spmm || r == 0 || c >= n)
				CHECK(!memcmp(&y[place(r, c, y_panel, 64)], &before[place(r, c, y_panel, 64)], sizeof *y));
	CHECK(!memcmp(y + 2 * y_panel, before + 2 * y_panel, GUARD * sizeof *y));
	CHECK(!memcmp(values + (spmm ? 0 : b.nnz), old + (spmm ? 0 : b.nnz),
				  sizeof values - (size_t)(spmm ? 0 : b.nnz) * sizeof *values));
}

static void try_kernel(sl_block_kernel kernel, sl_op_kind kind, sl_isa isa) {
	for (int vectors = 1; vectors <= (isa == SL_ISA_AVX512 ? 8 : 4); vectors++)
		for (int wide = 0; wide < (vectors > 4 ? 1 : 2); wide++)
			for (int64_t longest = 0; longest <= 34; longest += longest < 20 ? 1 : 7)
				for (int s = 0; s < 8; s++)
					try_block(kernel, kind, vectors, wide, longest, s & 4 ? 1 : 0.75,
							  s & 4   ? s & 1
							  : s & 1 ? 0.5
									  : 0,
							  s & 2 && kind == SL_OP_SPMM);
}

SL_TEST(blocks, every_row_of_the_table) {
	int count = 0;
	const sl_kernel *k = sli_cpu_kernels(&count);
	for (int i = 0; i < count; i++)
		if (k[i].blocked && sli_cpu_has(k[i].isa))
			try_kernel(k[i].blocked, k[i].kind, k[i].isa);
		else if (k[i].blocked)
			fprintf(stderr, "skipped: %s, this machine has no %s\n", k[i].name, sli_isa_name(k[i].isa));
}

SL_TEST(blocks, avx512_emulated) {
	if (!test_blocks_simde)
		sl_test_skip("SIMDe (libsimde-dev) is not installed");
	try_kernel(test_blocks_spmm_simde, SL_OP_SPMM, SL_ISA_AVX512);
	try_kernel(test_blocks_sddmm_simde, SL_OP_SDDMM, SL_ISA_AVX512);
}

static sl_dense panels(int64_t rows, int64_t cols, int64_t width, uint64_t seed) {
	sl_dense m = sl_dense_view(NULL, SL_F32, rows, cols);
	int64_t all = (cols + width - 1) / width * width * rows;
	m.order = SL_COL_PANELS;
	m.ld = width;
	m.data = malloc((size_t)(all ? all : 1) * sizeof(float));
	CHECK(m.data);
	sl_test_fill(m.data, SL_F32, all, seed);
	for (int64_t r = 0; r < rows; r++)
		for (int64_t c = cols; c < (cols + width - 1) / width * width; c++)
			((float *)m.data)[c / width * rows * width + r * width + c % width] = 0;
	return m;
}

typedef struct shape {
	int64_t out, in, n, width;
	double density;
} shape;

/* One element of W x, Wᵀ y or y xᵀ. */
static void check_element(const sl_dense *full, const sl_dense *a, const sl_dense *b, sl_op_kind kind, bool transpose,
						  int64_t r, int64_t c, double got) {
	double sum = 0, mass = 0;
	int64_t count = kind == SL_OP_SDDMM ? a->cols : transpose ? full->rows : full->cols;
	for (int64_t i = 0; i < count; i++) {
		double p = kind == SL_OP_SDDMM ? view_load(a, r, i) * view_load(b, c, i)
									   : view_load(full, transpose ? i : r, transpose ? r : i) * view_load(b, i, c);
		sum += p, mass += fabs(p);
	}
	CHECK_NEAR(got, sum, (double)(count + 4) * FLT_EPSILON * mass);
}

static void check_shape(const shape *s, int threads, float **bits) {
	sl_context *context = NULL;
	sl_pattern *pattern = NULL;
	sl_csr *w = NULL;
	CHECK_EQ(sl_context_create(&context,
							   &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .threads = threads}),
			 SL_OK);
	CHECK_OK(context, sl_pattern_random(&pattern, context, s->out, s->in, s->density, 5));
	CHECK_OK(context, sl_csr_create_pattern(&w, context, pattern, SL_F32));
	sl_pattern_arrays arrays;
	CHECK_OK(context, sl_pattern_get(context, pattern, &arrays));
	sl_test_fill(sl_csr_values(w), SL_F32, arrays.nnz, 6);
	sl_dense full = sl_dense_view(malloc((size_t)(s->out * s->in) * sizeof(float)), SL_F32, s->out, s->in);
	CHECK(full.data);
	CHECK_OK(context, sl_csr_to_dense(context, w, &full));
	sl_dense x = panels(s->in, s->n, s->width, 7), y = panels(s->out, s->n, s->width, 8);
	sl_dense out = panels(s->out, s->n, s->width, 9), back = panels(s->in, s->n, s->width, 10);
	sl_csr *dw = NULL;
	CHECK_OK(context, sl_csr_create_pattern(&dw, context, pattern, SL_F32));
	sl_dense turned = sl_dense_transposed(x);
	CHECK_OK(context, sl_spmm(context, SL_NO_TRANSPOSE, 1, w, &x, 0, &out, NULL));
	CHECK_OK(context, sl_spmm(context, SL_TRANSPOSE, 1, w, &y, 0, &back, NULL));
	CHECK_OK(context, sl_sddmm(context, 1, &y, &turned, 0, dw));
	size_t panel_columns = (size_t)((s->n + s->width - 1) / s->width * s->width);
	size_t sizes[3] = {(size_t)s->out * panel_columns, (size_t)s->in * panel_columns, (size_t)arrays.nnz};
	const float *made[3] = {out.data, back.data, sl_csr_values(dw)};
	for (int i = 0; i < 3; i++)
		if (!sizes[i]) { /* nothing to compare; NULL, perhaps */
			continue;
		} else if (!bits[i]) {
			bits[i] = malloc(sizes[i] * sizeof(float));
			CHECK(bits[i]);
			memcpy(bits[i], made[i], sizes[i] * sizeof(float));
		} else {
			CHECK(!memcmp(bits[i], made[i], sizes[i] * sizeof(float)));
		}
	uint64_t seed = 1;
	for (int i = 0; i < 300 && threads == 1 && s->n; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		int64_t r = (int64_t)(seed >> 33) % s->out, c = (int64_t)(seed >> 13) % s->n;
		check_element(&full, NULL, &x, SL_OP_SPMM, false, r, c, view_load(&out, r, c));
		int64_t in = (int64_t)(seed >> 23) % s->in;
		check_element(&full, NULL, &y, SL_OP_SPMM, true, in, c, view_load(&back, in, c));
		int64_t k = arrays.nnz ? (int64_t)(seed >> 17) % arrays.nnz : -1, row = 0;
		const int32_t *offsets = arrays.row_offsets;
		while (k >= 0 && offsets[row + 1] <= k)
			row++;
		if (k >= 0)
			check_element(&full, &y, &x, SL_OP_SDDMM, false, row, arrays.col_indices[k], made[2][k]);
	}
	free(full.data), free(x.data), free(y.data), free(out.data), free(back.data);
	sl_csr_destroy(w), sl_csr_destroy(dw);
	sl_pattern_release(pattern);
	sl_context_destroy(context);
}

/* 112, 160 and 80 columns are a block of L1, 91 of seven vectors, 2048 one of L2; 1024 rows a group; 128 columns two
 * panels. */
SL_TEST(blocks, shapes_on_both_sides_of_every_cut) {
	static const shape shapes[] = {
		{1, 1, 17, 32, 1},         {5, 111, 64, 64, 0.5},     {70, 112, 65, 64, 0.4},   {33, 113, 63, 64, 1},
		{64, 159, 256, 64, 0.5},   {65, 160, 255, 64, 0.5},   {20, 161, 257, 64, 0.5},  {40, 81, 128, 64, 0.7},
		{40, 79, 127, 64, 0.7},    {300, 500, 100, 64, 0.1},  {300, 500, 30, 32, 0.1},  {200, 700, 40, 16, 0.1},
		{1025, 300, 70, 64, 0.05}, {1023, 170, 66, 64, 0.04}, {64, 2047, 64, 64, 0.01}, {64, 2048, 130, 64, 0.01},
		{50, 2049, 90, 64, 0.01},  {30, 4200, 32, 32, 0.005}, {2100, 40, 64, 64, 0.02}, {40, 40, 64, 64, 0},
		{256, 256, 400, 64, 0.3},  {300, 128, 66, 64, 0.5},   {40, 106, 96, 64, 0.4},   {700, 91, 97, 64, 0.4},
		{600, 92, 112, 64, 0.6},   {90, 90, 113, 64, 0.36},
	};
	static const int threads[] = {1, 2, 4, 7};
	static const char *const sets[] = {"avx2", "avx512"};
	char *had = getenv("SPARSELAYER_CPU");
	char kept[32] = "";
	if (had)
		snprintf(kept, sizeof kept, "%s", had);
	for (int i = 0; i < 2; i++) {
		if (!sli_cpu_has(i ? SL_ISA_AVX512 : SL_ISA_AVX2))
			continue;
		setenv("SPARSELAYER_CPU", sets[i], 1);
		for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
			float *bits[3] = {NULL, NULL, NULL};
			for (int t = 0; t < 4; t++)
				check_shape(&shapes[s], threads[t], bits);
			free(bits[0]), free(bits[1]), free(bits[2]);
		}
	}
	if (had)
		setenv("SPARSELAYER_CPU", kept, 1);
	else
		unsetenv("SPARSELAYER_CPU");
}
