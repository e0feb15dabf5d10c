/* SPDX-License-Identifier: Apache-2.0 */
/* svmlight text, and the same bytes as ratings. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	return fuzz_read(data, size, SL_FORMAT_SVMLIGHT);
}
