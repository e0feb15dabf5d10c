/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SL_SPARSE_PATTERN_H
#define SL_SPARSE_PATTERN_H

#include <pthread.h>

#include "sparse/sparse.h"

struct sl_pattern {
	sl_pattern_arrays arrays;
	int references; /* atomic */
	bool owned;     /* the arrays are the heap's; else borrowed */
	sl_heap *heap;
	sl_release_callback release;
	void *release_user;
	/* Whose memory the arrays were given in, retained; NULL: the host's. Else `given` are they, and `arrays` has
	 * pointers once the host asked for copies. */
	sl_device_state *device;
	sl_pattern_arrays given;
	pthread_mutex_t lock; /* over what follows, and over `arrays` where there is a device */
	bool has_transpose;
	sl_pattern_arrays transposed;
	void *permutation;
	sl_dtype permutation_dtype;
	struct sl_pattern_mirror *mirrors; /* copies on devices, one a context: src/sparse/mirror.c */
	struct sl_pattern_choice *choices; /* src/sparse/choices.c */
};

typedef struct sl_pattern_choice sl_pattern_choice;
void sli_pattern_drop_choices(sl_pattern *pattern);

/* Free what is on devices. */
void sli_pattern_drop_mirrors(sl_pattern *pattern);
size_t sli_pattern_mirror_bytes(const sl_pattern *pattern);

/* A pattern that borrows arrays of the context's device, which the host does not read. Checked there unless trusted. */
sl_status sli_pattern_new_device(sl_pattern **pattern, sl_context *context, const sl_pattern_arrays *arrays,
								 bool trusted);
/* A pattern that borrows its arrays. */
sl_status sli_pattern_new(sl_pattern **pattern, sl_context *context, const sl_pattern_arrays *arrays);
sl_status sli_pattern_make_transpose(sl_context *context, sl_pattern *pattern);
uint64_t sli_pattern_hash(const sl_pattern *pattern);

#endif
