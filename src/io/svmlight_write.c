/* SPDX-License-Identifier: Apache-2.0 */
#include "io/dataset.h"
#include "sparse/sparse.h"

static void write_set(sl_writer *w, const sl_pattern_arrays *a, int64_t row) {
	int64_t begin = sli_index(a->row_offsets, a->offset_dtype, row);
	int64_t end = sli_index(a->row_offsets, a->offset_dtype, row + 1);
	for (int64_t i = begin; i < end; i++)
		sli_print(w, "%s%d", i > begin ? "," : "", (int)a->col_indices[i]);
}

sl_status sli_svmlight_write(sl_context *context, const sl_csr *inputs, const double *labels, const sl_csr *targets,
							 const char *path) {
	sl_writer *w;
	sl_pattern_arrays a = sli_pattern_arrays(inputs->pattern), sets = {0};
	if (targets)
		sets = sli_pattern_arrays(targets->pattern);
	SL_TRY(sli_writer_open(&w, context, path));
	locale_t before = sli_locale_enter();
	for (int64_t row = 0; row < a.rows && w->status == SL_OK; row++) {
		if (targets)
			write_set(w, &sets, row);
		else
			sli_print(w, "%.17g", labels ? labels[row] : 0.0);
		int64_t end = sli_index(a.row_offsets, a.offset_dtype, row + 1);
		for (int64_t i = sli_index(a.row_offsets, a.offset_dtype, row); i < end; i++)
			if (inputs->dtype == SL_F64)
				sli_print(w, " %lld:%.17g", a.col_indices[i] + 1LL, ((const double *)inputs->values)[i]);
			else
				sli_print(w, " %lld:%.9g", a.col_indices[i] + 1LL, (double)((const float *)inputs->values)[i]);
		sli_print(w, "\n");
	}
	sli_locale_leave(before);
	return sli_writer_close(w, SL_OK);
}
