/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SL_IO_DATASET_H
#define SL_IO_DATASET_H

#include "io/io.h"

struct sl_dataset {
	sl_heap *heap; /* owns everything; retained */
	sl_idx images; /* [samples, rows, cols], scaled to [0, 1] */
	int32_t *labels;
	int classes;
};

sl_status sli_dataset_read(sl_dataset **dataset, sl_context *context, const char *directory, bool train);

#endif
