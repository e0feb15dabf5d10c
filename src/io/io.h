/* SPDX-License-Identifier: Apache-2.0 */
/* What the formats share. */
#ifndef SL_IO_IO_H
#define SL_IO_IO_H

#include "core/context.h"
#include "train/optimizer.h"

/* Limits with defaults in place of zeros; `given` may be NULL. */
sl_status sli_read_limits(sl_context *context, const sl_read_limits *given, sl_read_limits *limits);
/* Open a file for reading: its descriptor and size. A directory or device is refused. */
sl_status sli_open_read(sl_context *context, const char *path, int *fd, int64_t *size);

sl_status sli_idx_read(sl_context *context, const char *path, const sl_read_limits *limits, sl_idx *array);
void sli_idx_free(sl_heap *heap, sl_idx *array);

#endif
