/* SPDX-License-Identifier: Apache-2.0 */
/* Sums by a fixed tree: the same bits whatever the number of ranks. */
#include "comm/comm.h"

#include "core/checked.h"

enum { MOST_NODES = 128, PIECE = 1 << 14 };

/* Where node [lo, hi) is divided. */
static int64_t middle(int64_t lo, int64_t hi) {
	int64_t half = 1;
	while (2 * half < hi - lo)
		half *= 2;
	return lo + half;
}

/* Whether [lo, hi) is a node under [from, to). */
static bool is_node(int64_t from, int64_t to, int64_t lo, int64_t hi) {
	while (from != lo || to != hi) {
		if (to - from < 2)
			return false;
		int64_t mid = middle(from, to);
		if (hi <= mid)
			to = mid;
		else if (lo >= mid)
			from = mid;
		else
			return false;
	}
	return true;
}

/* Put one more leaf on the stack of nodes; returns how many are there then. */
static int push(int64_t leaves, int64_t leaf, int64_t (*stack)[2], int height) {
	stack[height][0] = leaf;
	stack[height][1] = leaf + 1;
	height++;
	while (height > 1 && is_node(0, leaves, stack[height - 2][0], stack[height - 1][1])) {
		stack[height - 2][1] = stack[height - 1][1];
		height--;
	}
	return height;
}

int sli_tree_nodes(const sl_tree *tree, int rank, int64_t (*nodes)[2], int capacity) {
	int64_t stack[MOST_NODES][2], first, count;
	int height = 0;
	sl_comm_share(tree->leaves, rank, tree->size, &first, &count);
	for (int64_t i = 0; i < count; i++)
		height = push(tree->leaves, first + i, stack, height);
	for (int i = 0; i < height && i < capacity; i++) {
		nodes[i][0] = stack[i][0];
		nodes[i][1] = stack[i][1];
	}
	return height;
}

int sli_tree_merges(const sl_tree *tree, int64_t at) {
	int64_t stack[MOST_NODES][2];
	int height = 0, before = 0;
	for (int64_t i = 0; i <= at; i++) {
		before = height;
		height = push(tree->leaves, tree->first + i, stack, height);
	}
	return before + 1 - height;
}

int sli_tree_depth(const sl_tree *tree) {
	int64_t stack[MOST_NODES][2];
	int height = 0, most = 1;
	for (int64_t i = 0; i < tree->count; i++) {
		most = height + 1 > most ? height + 1 : most;
		height = push(tree->leaves, tree->first + i, stack, height);
	}
	return most;
}

void sli_tree_init(sl_tree *tree, int64_t leaves, int rank, int size) {
	*tree = (sl_tree){.leaves = leaves, .rank = rank, .size = size};
	sl_comm_share(leaves, rank, size, &tree->first, &tree->count);
	for (int r = 0; r < size; r++) {
		int n = sli_tree_nodes(tree, r, NULL, 0);
		tree->most_nodes = n > tree->most_nodes ? n : tree->most_nodes;
	}
}

typedef struct adding {
	char *to;
	const char *from;
	int64_t count;
	sl_dtype dtype;
} adding;

static void add_piece(void *argument, size_t index) {
	const adding *a = argument;
	int64_t begin = (int64_t)index * PIECE, end = begin + PIECE < a->count ? begin + PIECE : a->count;
	if (a->dtype == SL_F32) {
		float *to = (float *)(void *)a->to;
		const float *from = (const float *)(const void *)a->from;
		for (int64_t i = begin; i < end; i++)
			to[i] += from[i];
	} else {
		double *to = (double *)(void *)a->to;
		const double *from = (const double *)(const void *)a->from;
		for (int64_t i = begin; i < end; i++)
			to[i] += from[i];
	}
}

void sli_add_vectors(sl_context *context, void *to, const void *from, int64_t count, sl_dtype dtype) {
	adding a = {to, from, count, dtype};
	sli_parallel(context, (size_t)sli_ceil_div(count, PIECE), add_piece, &a);
}

bool sli_tree_bytes(const sl_tree *tree, int64_t count, sl_dtype dtype, size_t *bytes) {
	/* Sent, received, and gathered. */
	int64_t part = sli_ceil_div(count, tree->size), all;
	return sli_mul(part, (2 * (int64_t)tree->most_nodes + 1) * tree->size, &all) &&
		   sli_bytes(all, sl_dtype_size(dtype), bytes);
}

sl_status sli_tree_begin(sl_context *context, sl_comm *comm, const sl_tree *tree, sl_tree_sum *sum, void *const *nodes,
						 int64_t offset, int64_t count, sl_dtype dtype, void *memory) {
	size_t size = sl_dtype_size(dtype);
	int64_t nodes_here[MOST_NODES][2], part = sli_ceil_div(count, tree->size), block = part * tree->most_nodes;
	int have = sli_tree_nodes(tree, tree->rank, nodes_here, MOST_NODES);
	*sum = (sl_tree_sum){
		.memory = memory, .count = count, .part = part, .dtype = dtype, .to = (char *)nodes[0] + (size_t)offset * size};
	char *send = memory;
	memset(send, 0, (size_t)(block * tree->size) * size);
	for (int r = 0; r < tree->size; r++)
		for (int k = 0; k < have; k++) {
			int64_t from = r * part, n = count - from < part ? count - from : part;
			if (n > 0)
				memcpy(send + (size_t)(r * block + k * part) * size,
					   (const char *)nodes[k] + (size_t)(offset + from) * size, (size_t)n * size);
		}
	sl_comm_call call = {.kind = SL_CALL_ALL_TO_ALL,
						 .send = send,
						 .recv = send + (size_t)(block * tree->size) * size,
						 .count = block,
						 .dtype = dtype,
						 .on_host = true};
	return sli_comm_call(context, comm, &call, &sum->request);
}

/* The sum of node [lo, hi), left where its first part is. */
static char *fold(sl_context *context, const sl_tree *tree, const sl_tree_sum *sum, int64_t lo, int64_t hi) {
	size_t size = sl_dtype_size(sum->dtype);
	int64_t block = sum->part * tree->most_nodes, own[MOST_NODES][2];
	char *received = (char *)sum->memory + (size_t)(block * tree->size) * size;
	for (int r = 0; r < tree->size; r++) {
		int n = sli_tree_nodes(tree, r, own, MOST_NODES);
		for (int k = 0; k < n; k++)
			if (own[k][0] == lo && own[k][1] == hi)
				return received + (size_t)(r * block + k * sum->part) * size;
	}
	int64_t mid = middle(lo, hi);
	char *left = fold(context, tree, sum, lo, mid), *right = fold(context, tree, sum, mid, hi);
	sli_add_vectors(context, left, right, sum->part, sum->dtype);
	return left;
}

sl_status sli_tree_fold(sl_context *context, sl_comm *comm, const sl_tree *tree, sl_tree_sum *sum, void **part) {
	SL_TRY(sli_comm_wait(context, comm, &sum->request));
	*part = fold(context, tree, sum, 0, tree->leaves);
	return SL_OK;
}

sl_status sli_tree_gather(sl_context *context, sl_comm *comm, const sl_tree *tree, sl_tree_sum *sum) {
	size_t size = sl_dtype_size(sum->dtype);
	int64_t block = sum->part * tree->most_nodes;
	SL_TRY(sli_comm_wait(context, comm, &sum->request));
	char *gathered = (char *)sum->memory + (size_t)(2 * block * tree->size) * size;
	char *mine = fold(context, tree, sum, 0, tree->leaves);
	sl_comm_call call = {.kind = SL_CALL_ALL_GATHER,
						 .send = mine,
						 .recv = gathered,
						 .count = sum->part,
						 .dtype = sum->dtype,
						 .on_host = true};
	return sli_comm_call(context, comm, &call, &sum->request);
}

sl_status sli_tree_end(sl_context *context, sl_comm *comm, const sl_tree *tree, sl_tree_sum *sum) {
	size_t size = sl_dtype_size(sum->dtype);
	SL_TRY(sli_comm_wait(context, comm, &sum->request));
	memcpy(sum->to, (char *)sum->memory + (size_t)(2 * sum->part * tree->most_nodes * tree->size) * size,
		   (size_t)sum->count * size);
	return SL_OK;
}
