/* SPDX-License-Identifier: Apache-2.0 */
/* Where the elements of a dense view lie. */
#ifndef SL_CORE_PLACE_H
#define SL_CORE_PLACE_H

#include <sparselayer/dense.h>

/* Element (r, c) of a view, in elements from data. */
static inline int64_t sli_at(const sl_dense *m, int64_t r, int64_t c) {
	switch (m->order) {
	case SL_ROW_MAJOR:
		return r * m->ld + c;
	case SL_COL_MAJOR:
		return c * m->ld + r;
	case SL_COL_PANELS:
		return (c / m->ld) * m->rows * m->ld + r * m->ld + c % m->ld;
	default:
		return (r / m->ld) * m->cols * m->ld + c * m->ld + r % m->ld;
	}
}

#endif
