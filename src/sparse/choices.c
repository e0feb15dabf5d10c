/* SPDX-License-Identifier: Apache-2.0 */
/* What was measured for products over a pattern, kept with it: one entry a context and description. */
#include "sparse/choices.h"

#include "sparse/pattern.h"

enum { MOST_KEPT = 64 };

/* All of a description that candidates are timed by. Zeroed before it is filled: entries are compared by their bytes.
 */
typedef struct key {
	sl_op_kind kind;
	sl_activation activation;
	sl_matrix_desc a, b, c;
	bool transpose, bias, pre_activation, sparse_only;
} key;

struct sl_pattern_choice {
	sl_pattern_choice *next;
	sl_device_state *device; /* retained: names are its backend's */
	key key;
	int count;
	sl_candidate list[];
};

static size_t bytes_of(int count) {
	return sizeof(sl_pattern_choice) + (size_t)count * sizeof(sl_candidate);
}

static void make_key(const sl_op_desc *desc, bool sparse_only, key *k) {
	memset(k, 0, sizeof *k);
	k->kind = desc->kind;
	k->activation = desc->activation;
	k->a = desc->a, k->b = desc->b, k->c = desc->c;
	k->transpose = desc->transpose;
	k->bias = desc->bias;
	k->pre_activation = desc->pre_activation;
	k->sparse_only = sparse_only;
}

static void free_choice(sl_heap *heap, sl_pattern_choice *c) {
	sli_device_release(c->device);
	sli_heap_free(heap, c, bytes_of(c->count));
}

void sli_pattern_drop_choices(sl_pattern *pattern) {
	while (pattern->choices) {
		sl_pattern_choice *c = pattern->choices;
		pattern->choices = c->next;
		free_choice(pattern->heap, c);
	}
}

static sl_pattern_choice *find(const sl_pattern *p, const sl_device_state *device, const key *k) {
	for (sl_pattern_choice *c = p->choices; c; c = c->next)
		if (c->device == device && !memcmp(&c->key, k, sizeof *k))
			return c;
	return NULL;
}

int sli_pattern_find_choice(sl_context *context, sl_pattern *pattern, const sl_op_desc *desc, bool sparse_only,
							sl_candidate *list, int capacity) {
	key k;
	int count = 0;
	make_key(desc, sparse_only, &k);
	pthread_mutex_lock(&pattern->lock);
	const sl_pattern_choice *c = find(pattern, sli_device(context), &k);
	if (c && c->count <= capacity) {
		count = c->count;
		memcpy(list, c->list, (size_t)count * sizeof *list);
	}
	pthread_mutex_unlock(&pattern->lock);
	return count;
}

/* The oldest goes where there are too many. */
static void make_room(sl_pattern *p) {
	int count = 0;
	for (sl_pattern_choice **at = &p->choices; *at; at = &(*at)->next)
		if (++count == MOST_KEPT) {
			sl_pattern_choice *last = *at;
			*at = last->next;
			free_choice(p->heap, last);
			break;
		}
}

void sli_pattern_keep_choice(sl_context *context, sl_pattern *pattern, const sl_op_desc *desc, bool sparse_only,
							 const sl_candidate *list, int count) {
	key k;
	make_key(desc, sparse_only, &k);
	pthread_mutex_lock(&pattern->lock);
	sl_pattern_choice *c = NULL;
	if (!find(pattern, sli_device(context), &k)) {
		make_room(pattern);
		c = sli_heap_allocate(pattern->heap, bytes_of(count));
	}
	if (c) {
		*c = (sl_pattern_choice){
			.next = pattern->choices, .device = sli_device_retain(sli_device(context)), .count = count};
		memcpy(&c->key, &k, sizeof k);
		memcpy(c->list, list, (size_t)count * sizeof *list);
		pattern->choices = c;
	}
	pthread_mutex_unlock(&pattern->lock);
}
