/* SPDX-License-Identifier: Apache-2.0 */
/* Communicators of one rank, refused arguments, and the tree of fixed sums. Several ranks: tests/ranks. */
#include "comm/comm.h"
#include "support/check.h"

static sl_comm *alone(sl_context *context) {
	sl_comm *comm = NULL;
	CHECK_OK(context, sl_comm_create(&comm, context, &(sl_comm_options){SL_COMM_DEFAULTS, .kind = SL_COMM_SELF}));
	return comm;
}

SL_TEST(comm, one_rank) {
	sl_context *context = sl_test_context();
	sl_comm *comm = alone(context);
	float a[4] = {1, 2, 3, 4}, b[4] = {0};
	sl_comm_request request = 7;
	CHECK_EQ(sl_comm_rank(comm), 0);
	CHECK_EQ(sl_comm_size(comm), 1);
	CHECK_EQ(sl_comm_get_kind(comm), SL_COMM_SELF);
	CHECK(strstr(sl_comm_describe(comm), "rank 0 of 1"));
	CHECK_OK(context, sl_comm_all_reduce(context, comm, a, b, 4, SL_F32, SL_COMM_SUM, SL_COMM_ON_HOST, &request));
	CHECK(request > 0);
	CHECK_OK(context, sl_comm_wait(context, comm, &request));
	CHECK_EQ(request, 0);
	CHECK_OK(context, sl_comm_wait(context, comm, &request));
	CHECK(!memcmp(a, b, sizeof a));
	CHECK_OK(context, sl_comm_agree(context, comm, "anything", 3));
	CHECK_OK(context, sl_comm_barrier(context, comm));
	CHECK_EQ(sl_comm_bytes_sent(comm), 0);
	sl_comm_destroy(comm);
	sl_comm_destroy(NULL);
	sl_context_destroy(context);
}

SL_TEST(comm, refused) {
	sl_context *context = sl_test_context();
	sl_comm *comm = alone(context), *other = (sl_comm *)1;
	float a[4] = {0}, b[4];
	sl_comm_request stranger = 99;
	CHECK_STATUS(context, sl_comm_create(&other, context, &(sl_comm_options){SL_COMM_DEFAULTS, .kind = 9}),
				 SL_ERR_ARGUMENT, "kind");
	CHECK(!other);
	CHECK_STATUS(context, sl_comm_create(&other, context, &(sl_comm_options){SL_COMM_DEFAULTS, .timeout = -1}),
				 SL_ERR_ARGUMENT, "timeout");
	CHECK_STATUS(context, sl_comm_create(&other, context, &(sl_comm_options){SL_COMM_DEFAULTS, .kind = SL_COMM_NCCL}),
				 SL_ERR_UNSUPPORTED, "GPU");
	CHECK_STATUS(
		context,
		sl_comm_create(&other, context, &(sl_comm_options){SL_COMM_DEFAULTS, .kind = SL_COMM_SELF, .unique_id = a}),
		SL_ERR_ARGUMENT, "unique_id");
	/* The modules lie beside the library, not beside this program, whose folder not every runner knows. */
	CHECK_STATUS(context, sl_comm_create(&other, context, &(sl_comm_options){SL_COMM_DEFAULTS, .kind = SL_COMM_MPI}),
				 SL_ERR_UNSUPPORTED, "mpi is not available");
	CHECK_STATUS(context, sl_comm_all_reduce(context, comm, a, b, -1, SL_F32, SL_COMM_SUM, SL_COMM_ON_HOST, NULL),
				 SL_ERR_ARGUMENT, "count is -1");
	CHECK_STATUS(context, sl_comm_all_reduce(context, comm, NULL, b, 1, SL_F32, SL_COMM_SUM, SL_COMM_ON_HOST, NULL),
				 SL_ERR_NULL, "send");
	CHECK_STATUS(context, sl_comm_all_gather(context, comm, a, NULL, 1, SL_F32, SL_COMM_ON_HOST, NULL), SL_ERR_NULL,
				 "receiving");
	CHECK_STATUS(context, sl_comm_all_reduce(context, comm, a, b, 1, (sl_dtype)5, SL_COMM_SUM, SL_COMM_ON_HOST, NULL),
				 SL_ERR_DTYPE, "dtype 5");
	CHECK_STATUS(context, sl_comm_all_reduce(context, comm, a, b, 1, SL_F32, 7, SL_COMM_ON_HOST, NULL), SL_ERR_ARGUMENT,
				 "op 7");
	CHECK_STATUS(context, sl_comm_broadcast(context, comm, a, 1, SL_F32, 1, SL_COMM_ON_HOST, NULL), SL_ERR_ARGUMENT,
				 "root is 1");
	CHECK_STATUS(context, sl_comm_all_to_all(context, comm, a, b, INT64_MAX / 2, SL_F32, SL_COMM_ON_HOST, NULL),
				 SL_ERR_OVERFLOW, "fit");
	CHECK_STATUS(context, sl_comm_wait(context, comm, &stranger), SL_ERR_ARGUMENT, "request 99");
	CHECK_EQ(sl_comm_barrier(NULL, comm), SL_ERR_NULL);
	CHECK_STATUS(context, sl_comm_barrier(context, NULL), SL_ERR_NULL, "comm");
	sl_comm_destroy(comm);
	sl_context_destroy(context);
}

SL_TEST(comm, too_many_requests) {
	sl_context *context = sl_test_context();
	sl_comm *comm = alone(context);
	float a[1] = {1};
	sl_comm_request requests[SL_REQUESTS], one;
	for (int i = 0; i < SL_REQUESTS; i++)
		CHECK_OK(context,
				 sl_comm_all_reduce(context, comm, a, a, 1, SL_F32, SL_COMM_SUM, SL_COMM_ON_HOST, &requests[i]));
	CHECK_STATUS(context, sl_comm_all_reduce(context, comm, a, a, 1, SL_F32, SL_COMM_SUM, SL_COMM_ON_HOST, &one),
				 SL_ERR_STATE, "on their way");
	for (int i = 0; i < SL_REQUESTS; i++)
		CHECK_OK(context, sl_comm_wait(context, comm, &requests[i]));
	CHECK_OK(context, sl_comm_all_reduce(context, comm, a, a, 1, SL_F32, SL_COMM_SUM, SL_COMM_ON_HOST, NULL));
	sl_comm_destroy(comm);
	sl_context_destroy(context);
}

SL_TEST(comm, shares) {
	for (int64_t total = 0; total < 40; total++)
		for (int parts = 1; parts < 9; parts++) {
			int64_t next = 0;
			for (int p = 0; p < parts; p++) {
				int64_t first, count;
				sl_comm_share(total, p, parts, &first, &count);
				CHECK_EQ(first, next);
				CHECK(count == total / parts || count == total / parts + 1);
				next += count;
			}
			CHECK_EQ(next, total);
		}
	int64_t first, count;
	sl_comm_share(INT64_MAX, 6, 7, &first, &count);
	CHECK_EQ(first + count, INT64_MAX);
}

/* How the tree puts leaves [lo, hi) in brackets, written down. */
static size_t brackets(char *text, int64_t lo, int64_t hi) {
	if (hi - lo == 1)
		return (size_t)sprintf(text, "%lld", (long long)lo);
	int64_t half = 1;
	while (2 * half < hi - lo)
		half *= 2;
	size_t n = (size_t)sprintf(text, "(");
	n += brackets(text + n, lo, lo + half);
	n += (size_t)sprintf(text + n, "+");
	n += brackets(text + n, lo + half, hi);
	return n + (size_t)sprintf(text + n, ")");
}

/* Ranks add their leaves up in the very brackets of the whole tree, whatever their number. */
SL_TEST(comm, trees_are_one) {
	for (int leaves = 1; leaves <= 17; leaves++)
		for (int size = 1; size <= leaves; size++) {
			char whole[512];
			brackets(whole, 0, leaves);
			for (int r = 0; r < size; r++) {
				sl_tree tree;
				char stack[16][512];
				int64_t nodes[16][2];
				int height = 0, most = 0;
				sli_tree_init(&tree, leaves, r, size);
				for (int64_t i = 0; i < tree.count; i++) {
					snprintf(stack[height++], sizeof *stack, "%lld", (long long)(tree.first + i));
					most = height > most ? height : most;
					for (int m = sli_tree_merges(&tree, i); m > 0; m--, height--) {
						char sum[1100];
						snprintf(sum, sizeof sum, "(%s+%s)", stack[height - 2], stack[height - 1]);
						CHECK(strlen(sum) < 512);
						memcpy(stack[height - 2], sum, strlen(sum) + 1);
					}
				}
				CHECK_EQ(height, sli_tree_nodes(&tree, r, nodes, 16));
				CHECK(height <= tree.most_nodes);
				CHECK_EQ(most, sli_tree_depth(&tree));
				for (int k = 0; k < height; k++) {
					char node[512];
					brackets(node, nodes[k][0], nodes[k][1]);
					CHECK(!strcmp(node, stack[k]));
					CHECK(strstr(whole, node));
				}
			}
		}
}
