/* SPDX-License-Identifier: Apache-2.0 */
/* Class numbers and ids: distinct keys by an open hash table, then sorted. */
#include <stdlib.h>

#include "core/checked.h"
#include "io/dataset.h"

typedef struct slot {
	uint64_t key;
	int64_t place; /* 0: free; else one more than the key's number */
} slot;

typedef struct table {
	sl_heap *heap;
	slot *slots;
	size_t size; /* a power of two, more than half of it free */
	int64_t used;
} table;

/* Every bit of the result depends on every bit of the key (Vigna's splitmix64 finalizer), but keys chosen to
 * collide by somebody who knows it only cost time, linear in the table. */
static size_t home(const table *t, uint64_t key) {
	key = (key ^ key >> 30) * 0xBF58476D1CE4E5B9u;
	key = (key ^ key >> 27) * 0x94D049BB133111EBu;
	return (size_t)(key ^ key >> 31) & (t->size - 1);
}

static slot *find(const table *t, uint64_t key) {
	size_t i = home(t, key);
	while (t->slots[i].place && t->slots[i].key != key)
		i = (i + 1) & (t->size - 1);
	return &t->slots[i];
}

static bool resize(table *t, size_t size) {
	table next = {t->heap, sli_heap_allocate(t->heap, size * sizeof(slot)), size, t->used};
	if (!next.slots)
		return false;
	memset(next.slots, 0, size * sizeof(slot));
	for (size_t i = 0; i < t->size; i++)
		if (t->slots[i].place)
			*find(&next, t->slots[i].key) = t->slots[i];
	sli_heap_free(t->heap, t->slots, t->size * sizeof(slot));
	*t = next;
	return true;
}

static bool add(table *t, uint64_t key, int64_t place) {
	if ((size_t)t->used * 2 >= t->size && !resize(t, t->size * 2))
		return false;
	slot *s = find(t, key);
	if (!s->place) {
		*s = (slot){key, place + 1};
		t->used++;
	}
	return true;
}

static int compare(const void *a, const void *b) {
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

/* The table's keys, sorted, and in the table the place of each. */
static uint64_t *sort_keys(table *t) {
	uint64_t *sorted = sli_heap_allocate(t->heap, (size_t)t->used * sizeof *sorted);
	int64_t n = 0;
	if (!sorted)
		return NULL;
	for (size_t i = 0; i < t->size; i++)
		if (t->slots[i].place)
			sorted[n++] = t->slots[i].key;
	qsort(sorted, (size_t)n, sizeof *sorted, compare);
	for (int64_t i = 0; i < n; i++)
		find(t, sorted[i])->place = i + 1;
	return sorted;
}

sl_status sli_distinct(sl_context *context, const uint64_t *keys, int64_t n, const uint64_t *known, uint64_t **found,
					   int64_t *count, int32_t *index, int64_t *stranger) {
	table t = {.heap = sli_heap(context)};
	bool ok = resize(&t, 256);
	*stranger = -1;
	if (known)
		for (int64_t i = 0; i < *count && ok; i++)
			ok = add(&t, known[i], i);
	else
		for (int64_t i = 0; i < n && ok; i++)
			ok = add(&t, keys[i], 0);
	if (ok && !known) {
		*count = t.used;
		*found = sort_keys(&t);
		ok = *found != NULL;
	}
	size_t bytes = t.size * sizeof(slot);
	for (int64_t i = 0; i < n && ok; i++) {
		int64_t place = find(&t, keys[i])->place;
		index[i] = (int32_t)place - 1;
		if (!place && *stranger < 0)
			*stranger = i;
	}
	sli_heap_free(t.heap, t.slots, t.slots ? bytes : 0);
	return ok ? SL_OK : sli_fail_memory(context, bytes, "the distinct labels or ids");
}
