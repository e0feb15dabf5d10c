/* SPDX-License-Identifier: Apache-2.0 */
/* Copies between orders by every instruction set the machine has, bit for bit. */
#include <stdlib.h>

#include "cpu/products.h"
#include "support/check.h"
#include "support/views.h"

static void check_copy(sl_context *context, sl_dtype dtype, sl_order from, sl_order to, int64_t rows, int64_t cols,
					   int64_t width) {
	view_block a = view_create(dtype, from, rows, cols, width), b = view_create(dtype, to, rows, cols, width);
	for (int64_t r = 0; r < rows; r++)
		for (int64_t c = 0; c < cols; c++)
			view_set(a.view.data, dtype, view_at(&a.view, r, c), (double)((r * 131 + c * 7) % 509 - 250) / 64);
	CHECK_OK(context, sl_dense_copy(context, &a.view, &b.view));
	for (int64_t r = 0; r < rows; r++)
		for (int64_t c = 0; c < cols; c++)
			if (view_load(&a.view, r, c) != view_load(&b.view, r, c))
				CHECK_NEAR(view_load(&b.view, r, c), view_load(&a.view, r, c), 0);
	size_t used = (size_t)b.elements * sl_dtype_size(dtype);
	for (size_t i = 0; i < VIEW_GUARD; i++)
		CHECK(b.bytes[i] == VIEW_BYTE && b.bytes[VIEW_GUARD + used + i] == VIEW_BYTE);
	free(a.bytes);
	free(b.bytes);
}

static void check_all(sl_context *context, sl_dtype dtype) {
	const int64_t sizes[] = {0, 1, 15, 16, 17, 64, 65, 130};
	const int64_t widths[] = {8, 16, 64};
	for (int from = SL_ROW_MAJOR; from <= SL_ROW_PANELS; from++)
		for (int to = SL_ROW_MAJOR; to <= SL_ROW_PANELS; to++)
			for (size_t r = 0; r < sizeof sizes / sizeof *sizes; r++)
				for (size_t c = 0; c < sizeof sizes / sizeof *sizes; c++)
					for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
						check_copy(context, dtype, (sl_order)from, (sl_order)to, sizes[r], sizes[c], widths[w]);
}

SL_TEST(convert, every_order_and_instruction_set) {
	const char *sets[] = {"scalar", "avx2", "avx512"};
	const char *kept = getenv("SPARSELAYER_CPU");
	char before[32] = "";
	snprintf(before, sizeof before, "%s", kept ? kept : "");
	for (int isa = SL_ISA_SCALAR; isa <= SL_ISA_AVX512; isa++) {
		if (!sli_cpu_has((sl_isa)isa))
			continue;
		setenv("SPARSELAYER_CPU", sets[isa], 1);
		sl_context *context = sl_test_context();
		check_all(context, SL_F32);
		sl_context_destroy(context);
	}
	if (*before)
		setenv("SPARSELAYER_CPU", before, 1);
	else
		unsetenv("SPARSELAYER_CPU");
}

SL_TEST(convert, other_dtypes) {
	sl_context *context = sl_test_context();
	const sl_dtype dtypes[] = {SL_F64, SL_BF16, SL_F16};
	for (size_t i = 0; i < 3; i++)
		for (int from = SL_ROW_MAJOR; from <= SL_ROW_PANELS; from++)
			for (int to = SL_ROW_MAJOR; to <= SL_ROW_PANELS; to++)
				check_copy(context, dtypes[i], (sl_order)from, (sl_order)to, 33, 70, 16);
	sl_context_destroy(context);
}
