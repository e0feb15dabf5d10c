/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "core/checked.h"
#include "core/host.h"
#include "sparse/build.h"
#include "sparse/density.h"
#include "sparse/pattern.h"
#include "sparse/random.h"

static sl_status check_shape(sl_context *context, void *out, int64_t rows, int64_t cols, int64_t *total) {
	if (!context || !out)
		return sli_fail(context, SL_ERR_NULL, "the result's pointer or the context is null");
	if (rows < 0 || cols < 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "%lld x %lld: sizes must not be negative", (long long)rows,
						(long long)cols);
	if (cols > INT32_MAX)
		return sli_fail(context, SL_ERR_OVERFLOW, "cols is %lld; column indices are int32, so at most 2147483647",
						(long long)cols);
	if (!sli_mul(rows, cols, total) || rows > INT64_MAX / 16)
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld x %lld entries do not fit int64", (long long)rows,
						(long long)cols);
	return SL_OK;
}

static sl_status check_arrays(sl_context *context, const sl_pattern_arrays *a, sl_dtype index_dtype,
							  const void *col_indices) {
	if (a->nnz < 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "nnz is %lld; it must not be negative", (long long)a->nnz);
	if ((a->offset_dtype != SL_I32 && a->offset_dtype != SL_I64) || (index_dtype != SL_I32 && index_dtype != SL_I64))
		return sli_fail(context, SL_ERR_DTYPE, "offset and index dtypes must be SL_I32 or SL_I64");
	if (!a->row_offsets || (a->nnz && !col_indices))
		return sli_fail(context, SL_ERR_NULL, "%s is null", a->row_offsets ? "col_indices" : "row_offsets");
	return SL_OK;
}

sl_status sl_pattern_wrap(sl_pattern **pattern, sl_context *context, int64_t rows, int64_t cols, int64_t nnz,
						  const void *row_offsets, sl_dtype offset_dtype, const int32_t *col_indices,
						  sl_release_callback release, void *user) {
	int64_t total = 0;
	sl_pattern_arrays arrays = {rows, cols, nnz, row_offsets, offset_dtype, col_indices};
	if (pattern)
		*pattern = NULL;
	SL_TRY(check_shape(context, pattern, rows, cols, &total));
	SL_TRY(check_arrays(context, &arrays, SL_I32, col_indices));
	SL_TRY(sli_pattern_validate(context, &arrays));
	SL_TRY(sli_pattern_new(pattern, context, &arrays));
	(*pattern)->release = release;
	(*pattern)->release_user = user;
	return SL_OK;
}

sl_status sl_pattern_wrap_device(sl_pattern **pattern, sl_context *context, int64_t rows, int64_t cols, int64_t nnz,
								 const void *row_offsets, sl_dtype offset_dtype, const int32_t *col_indices,
								 bool trusted, sl_release_callback release, void *user) {
	int64_t total = 0;
	sl_pattern_arrays arrays = {rows, cols, nnz, row_offsets, offset_dtype, col_indices};
	if (pattern)
		*pattern = NULL;
	SL_TRY(check_shape(context, pattern, rows, cols, &total));
	SL_TRY(check_arrays(context, &arrays, SL_I32, col_indices));
	if (sli_on_host(sli_device(context))) {
		if (!trusted)
			SL_TRY(sli_pattern_validate(context, &arrays));
		SL_TRY(sli_pattern_new(pattern, context, &arrays));
	} else {
		SL_TRY(sli_pattern_new_device(pattern, context, &arrays, trusted));
	}
	(*pattern)->release = release;
	(*pattern)->release_user = user;
	return SL_OK;
}

sl_status sl_pattern_create(sl_pattern **pattern, sl_context *context, int64_t rows, int64_t cols, int64_t nnz,
							const void *row_offsets, sl_dtype offset_dtype, const void *col_indices,
							sl_dtype index_dtype) {
	int64_t total = 0;
	sl_pattern_arrays given = {rows, cols, nnz, row_offsets, offset_dtype, NULL};
	sl_entries entries = {.rows = rows,
						  .cols = cols,
						  .nnz = nnz,
						  .offsets = row_offsets,
						  .offset_dtype = offset_dtype,
						  .col_indices = col_indices,
						  .index_dtype = index_dtype};
	if (pattern)
		*pattern = NULL;
	SL_TRY(check_shape(context, pattern, rows, cols, &total));
	SL_TRY(check_arrays(context, &given, index_dtype, col_indices));
	return sli_build(pattern, NULL, SL_F32, context, &entries, &(sl_build_options){SL_BUILD_DEFAULTS});
}

sl_status sl_pattern_random(sl_pattern **pattern, sl_context *context, int64_t rows, int64_t cols, double density,
							uint64_t stream) {
	int64_t total = 0;
	if (pattern)
		*pattern = NULL;
	SL_TRY(check_shape(context, pattern, rows, cols, &total));
	if (!(density >= 0 && density <= 1))
		return sli_fail(context, SL_ERR_ARGUMENT, "density is %g; it must be in [0, 1]", density);
	int64_t nnz = density == 1 ? total : (int64_t)llround(density * (double)total);
	return sli_pattern_random(pattern, context, rows, cols, total, nnz < total ? nnz : total, stream);
}

sl_status sl_pattern_n_m(sl_pattern **pattern, sl_context *context, int64_t rows, int64_t cols, int n, int m,
						 uint64_t stream) {
	int64_t total = 0;
	if (pattern)
		*pattern = NULL;
	SL_TRY(check_shape(context, pattern, rows, cols, &total));
	if (m < 1 || n < 0 || n > m)
		return sli_fail(context, SL_ERR_ARGUMENT, "%d:%d structure: m must be positive and n in [0, m]", n, m);
	return sli_pattern_n_m(pattern, context, rows, cols, n, m, stream);
}

sl_status sl_density_distribute(sl_context *context, sl_distribution distribution, double density, int count,
								const int64_t (*shapes)[2], const int64_t (*kernels)[2], double *densities) {
	if (!context)
		return SL_ERR_NULL;
	if (count < 0 || distribution < SL_UNIFORM || distribution > SL_ERDOS_RENYI_KERNEL)
		return sli_fail(context, SL_ERR_ARGUMENT, "%s is %d", count < 0 ? "count" : "distribution",
						count < 0 ? count : (int)distribution);
	if (count && (!shapes || !densities))
		return sli_fail(context, SL_ERR_NULL, "%s is null", shapes ? "densities" : "shapes");
	if (!(density >= 0 && density <= 1))
		return sli_fail(context, SL_ERR_ARGUMENT, "density is %g; it must be in [0, 1]", density);
	for (int i = 0; i < count; i++)
		if (shapes[i][0] < 0 || shapes[i][1] < 0 || (kernels && (kernels[i][0] < 0 || kernels[i][1] < 0)))
			return sli_fail(context, SL_ERR_ARGUMENT, "layer %d has a negative size", i);
	sli_density_distribute(distribution, density, count, shapes, kernels, densities);
	return SL_OK;
}

sl_status sl_pattern_hash(sl_context *context, const sl_pattern *pattern, uint64_t *hash) {
	if (!pattern || !hash)
		return sli_fail(context, SL_ERR_NULL, "%s is null", pattern ? "hash" : "pattern");
	SL_TRY(sli_pattern_make_host(context, pattern));
	*hash = sli_pattern_hash(pattern);
	return SL_OK;
}

sl_status sl_pattern_full(sl_pattern **pattern, sl_context *context, int64_t rows, int64_t cols) {
	return sl_pattern_random(pattern, context, rows, cols, 1, 0);
}

sl_status sl_pattern_get(sl_context *context, const sl_pattern *pattern, sl_pattern_arrays *arrays) {
	if (!pattern || !arrays)
		return sli_fail(context, SL_ERR_NULL, "%s is null", pattern ? "arrays" : "pattern");
	SL_TRY(sli_pattern_make_host(context, pattern));
	*arrays = sli_pattern_arrays(pattern);
	return SL_OK;
}

sl_status sl_pattern_transpose(sl_context *context, sl_pattern *pattern, sl_pattern_arrays *arrays,
							   const void **permutation, sl_dtype *permutation_dtype) {
	if (!pattern || !arrays || !permutation || !permutation_dtype)
		return sli_fail(context, SL_ERR_NULL, "an argument is null");
	SL_TRY(sli_pattern_make_transpose(context, pattern));
	*arrays = pattern->transposed;
	*permutation = pattern->permutation;
	*permutation_dtype = pattern->permutation_dtype;
	return SL_OK;
}
