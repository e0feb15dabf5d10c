/* SPDX-License-Identifier: Apache-2.0 */
/* What docs/guide.md quotes about matrices, products and files. Run by the tests. */
#include <sparselayer/sparselayer.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The matrix  | 1 0 2 |
 *             | 0 0 3 |  in three forms. */
static sl_status build(sl_context *context) {
	sl_csr *csr = NULL, *csc = NULL, *coo = NULL;

	/* CSR: int32 or int64 offsets and columns; the columns of a row may come in any order. */
	int32_t row_offsets[] = {0, 2, 3}, columns[] = {2, 0, 2};
	float values[] = {2, 1, 3};
	SL_TRY(sl_csr_create(&csr, context, 2, 3, 3, row_offsets, SL_I32, columns, SL_I32, values, SL_F32, NULL));

	/* CSC, as SciPy's csc_matrix holds it. */
	int64_t col_offsets[] = {0, 1, 1, 3}, rows[] = {0, 0, 1};
	double by_column[] = {1, 2, 3};
	SL_TRY(sl_csr_create_csc(&csc, context, 2, 3, 3, col_offsets, SL_I64, rows, SL_I64, by_column, SL_F64,
							 &(sl_build_options){SL_BUILD_DEFAULTS, .dtype = SL_F32}));

	/* COO, in any order; (1, 2) comes twice, and the two are added up. */
	int32_t coo_rows[] = {1, 0, 1, 0}, coo_columns[] = {2, 0, 2, 2};
	float coo_values[] = {1, 1, 2, 2};
	SL_TRY(sl_csr_create_coo(
		&coo, context, 2, 3, 4, coo_rows, coo_columns, SL_I32, coo_values, SL_F32,
		&(sl_build_options){SL_BUILD_DEFAULTS, .duplicates = SL_DUPLICATES_SUM, .refuse_nonfinite = true}));

	uint64_t hash[3];
	SL_TRY(sl_pattern_hash(context, sl_csr_pattern(csr), &hash[0]));
	SL_TRY(sl_pattern_hash(context, sl_csr_pattern(csc), &hash[1]));
	SL_TRY(sl_pattern_hash(context, sl_csr_pattern(coo), &hash[2]));
	bool same = hash[0] == hash[1] && hash[0] == hash[2] && ((float *)sl_csr_values(coo))[2] == 3;
	sl_csr_destroy(csr);
	sl_csr_destroy(csc);
	sl_csr_destroy(coo);
	return same ? SL_OK : SL_ERR_INTERNAL;
}

static sl_status from_dense(sl_context *context) {
	static float pixels[64 * 48];
	for (int i = 0; i < 64 * 48; i++)
		pixels[i] = sinf((float)i * 0.37f);

	sl_csr *above = NULL, *largest = NULL;
	sl_dense view = sl_dense_view(pixels, SL_F32, 64, 48);
	SL_TRY(sl_csr_create_dense(&above, context, &view, 0.5, NULL));   /* |value| > 0.5 */
	SL_TRY(sl_csr_create_top_k(&largest, context, &view, 300, NULL)); /* the 300 largest */

	/* And back, zeros included, into any order and dtype. */
	static double back[48 * 64];
	sl_dense turned = sl_dense_transposed(sl_dense_view(back, SL_F64, 48, 64));
	SL_TRY(sl_csr_to_dense(context, above, &turned));

	sl_pattern_arrays arrays;
	SL_TRY(sl_pattern_get(context, sl_csr_pattern(largest), &arrays));
	sl_csr_destroy(above);
	sl_csr_destroy(largest);
	return arrays.nnz == 300 ? SL_OK : SL_ERR_INTERNAL;
}

static sl_status random_patterns(sl_context *context) {
	sl_pattern *uniform = NULL, *pairs = NULL;
	SL_TRY(sl_pattern_random(&uniform, context, 1024, 784, 0.05, 1)); /* 5%, from the context's seed and stream 1 */
	SL_TRY(sl_pattern_n_m(&pairs, context, 1024, 784, 2, 4, 2));      /* 2 of each 4 neighbours */

	/* One density for a whole network: the small last layer is kept denser. */
	int64_t shapes[3][2] = {{1024, 784}, {1024, 1024}, {10, 1024}};
	double densities[3];
	SL_TRY(sl_density_distribute(context, SL_ERDOS_RENYI, 0.05, 3, (const int64_t(*)[2])shapes, NULL, densities));
	printf("densities %.4f %.4f %.4f\n", densities[0], densities[1], densities[2]);

	sl_csr *weights = NULL;
	SL_TRY(sl_csr_create_pattern(&weights, context, uniform, SL_F32)); /* all zero; the pattern is retained */
	sl_csr_destroy(weights);
	sl_pattern_release(uniform);
	sl_pattern_release(pairs);
	return densities[2] > densities[0] ? SL_OK : SL_ERR_INTERNAL;
}

/* Y = relu(W X + b), planned once. */
static sl_status product(sl_context *context) {
	static float x[64 * 16], y[32 * 16], bias[32];
	sl_pattern *pattern = NULL;
	sl_csr *weights = NULL;
	sl_plan *plan = NULL;
	SL_TRY(sl_pattern_random(&pattern, context, 32, 64, 0.2, 1));
	SL_TRY(sl_csr_create_pattern(&weights, context, pattern, SL_F32));

	sl_dense X = sl_dense_view(x, SL_F32, 64, 16), Y = sl_dense_view(y, SL_F32, 32, 16);
	sl_epilogue relu = {SL_EPILOGUE_DEFAULTS, .bias = bias, .activation = SL_RELU};
	SL_TRY(sl_plan_spmm(&plan, context, SL_NO_TRANSPOSE, weights, &X, &Y, &relu));
	char line[160];
	SL_TRY(sl_plan_describe(context, plan, line, sizeof line));
	printf("%s\n", line);
	for (int step = 0; step < 3; step++)
		SL_TRY(sl_plan_run_spmm(context, plan, 1, weights, &X, 0, &Y, &relu));

	sl_plan_destroy(plan);
	sl_csr_destroy(weights);
	sl_pattern_release(pattern);
	return SL_OK;
}

static sl_status files(sl_context *context, const char *path) {
	sl_pattern *pattern = NULL;
	sl_csr *matrix = NULL, *read = NULL;
	SL_TRY(sl_pattern_random(&pattern, context, 100, 80, 0.1, 7));
	SL_TRY(sl_csr_create_pattern(&matrix, context, pattern, SL_F32));

	SL_TRY(sl_csr_write(context, matrix, path, SL_FORMAT_SAFETENSORS));
	/* From a stranger: at most a million entries and 64 MiB, decompressed. */
	sl_read_limits limits = {SL_READ_LIMITS_DEFAULTS, .max_nonzeros = 1000000, .max_bytes = 64 << 20};
	SL_TRY(sl_csr_read(&read, context, path, SL_FORMAT_AUTO, &limits));
	sl_csr_destroy(read);

	limits.max_nonzeros = 10;
	sl_status refused = sl_csr_read(&read, context, path, SL_FORMAT_AUTO, &limits);
	printf("%s: %s\n", sl_status_name(refused), sl_context_message(context));
	sl_csr_destroy(matrix);
	sl_pattern_release(pattern);
	return refused == SL_ERR_LIMIT ? SL_OK : SL_ERR_INTERNAL;
}

int main(void) {
	char folder[] = "/tmp/sparselayer-guide-XXXXXX", path[64];
	sl_context *context = NULL;
	sl_status status = sl_context_create(&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .seed = 1});
	if (!mkdtemp(folder))
		return 1;
	snprintf(path, sizeof path, "%s/matrix.safetensors", folder);
	if (status == SL_OK)
		status = build(context);
	if (status == SL_OK)
		status = from_dense(context);
	if (status == SL_OK)
		status = random_patterns(context);
	if (status == SL_OK)
		status = product(context);
	if (status == SL_OK)
		status = files(context, path);
	if (status != SL_OK)
		fprintf(stderr, "%s: %s\n", sl_status_text(status), sl_context_message(context));
	unlink(path);
	rmdir(folder);
	sl_context_destroy(context);
	return status != SL_OK;
}
