/* SPDX-License-Identifier: Apache-2.0 */
/* Every call against what it must give, in place and not, waited for and not, on every dtype. */
#include "ranks.h"

enum { MOST = 5000 };

static void put(void *data, sl_dtype dtype, int64_t i, double value) {
	if (dtype == SL_F32)
		((float *)data)[i] = (float)value;
	else if (dtype == SL_F64)
		((double *)data)[i] = value;
	else if (dtype == SL_I32)
		((int32_t *)data)[i] = (int32_t)value;
	else
		((int64_t *)data)[i] = (int64_t)value;
}

static double get(const void *data, sl_dtype dtype, int64_t i) {
	if (dtype == SL_F32)
		return ((const float *)data)[i];
	if (dtype == SL_F64)
		return ((const double *)data)[i];
	return dtype == SL_I32 ? ((const int32_t *)data)[i] : (double)((const int64_t *)data)[i];
}

/* Whole numbers: sums are exact in every dtype, whatever the order. */
static double value_of(int r, int64_t i) {
	return floor(1000 * signed_value((uint64_t)r, (uint64_t)i));
}

static double combined(sl_comm_op op, int64_t i) {
	double all = value_of(0, i);
	for (int r = 1; r < size; r++) {
		double v = value_of(r, i);
		all = op == SL_COMM_SUM ? all + v : op == SL_COMM_MAX ? fmax(all, v) : fmin(all, v);
	}
	return all;
}

static void reductions(sl_dtype dtype, int64_t n, void *send, void *recv) {
	sl_comm_request request;
	for (sl_comm_op op = SL_COMM_SUM; op <= SL_COMM_MIN; op++) {
		for (int in_place = 0; in_place < 2; in_place++) {
			void *from = in_place ? recv : send;
			for (int64_t i = 0; i < n; i++)
				put(from, dtype, i, value_of(rank, i));
			OK(sl_comm_all_reduce(context, comm, from, recv, n, dtype, op, SL_COMM_ON_HOST,
								  in_place ? NULL : &request));
			if (!in_place)
				OK(sl_comm_wait(context, comm, &request));
			for (int64_t i = 0; i < n; i++)
				CHECK(get(recv, dtype, i) == combined(op, i));
		}
		for (int64_t i = 0; i < n * size; i++)
			put(send, dtype, i, value_of(rank, i));
		OK(sl_comm_reduce_scatter(context, comm, send, recv, n, dtype, op,
								  sl_context_device(context) == SL_DEVICE_CPU ? SL_COMM_ON_DEVICE : SL_COMM_ON_HOST,
								  NULL));
		for (int64_t i = 0; i < n; i++)
			CHECK(get(recv, dtype, i) == combined(op, rank * n + i));
	}
}

static void movements(sl_dtype dtype, int64_t n, void *send, void *recv) {
	size_t bytes = sl_dtype_size(dtype);
	for (int in_place = 0; in_place < 2; in_place++) {
		void *from = in_place ? (char *)recv + (size_t)(rank * n) * bytes : send;
		for (int64_t i = 0; i < n; i++)
			put(from, dtype, i, value_of(rank, i));
		OK(sl_comm_all_gather(context, comm, from, recv, n, dtype, SL_COMM_ON_HOST, NULL));
		for (int64_t i = 0; i < n * size; i++)
			CHECK(get(recv, dtype, i) == value_of((int)(i / n), i % n));
	}
	for (int64_t i = 0; i < n * size; i++)
		put(send, dtype, i, value_of(rank, i));
	OK(sl_comm_all_to_all(context, comm, send, recv, n, dtype, SL_COMM_ON_HOST, NULL));
	for (int64_t i = 0; i < n * size; i++)
		CHECK(get(recv, dtype, i) == value_of((int)(i / n), rank * n + i % n));
	for (int root = 0; root < size; root++) {
		for (int64_t i = 0; i < n; i++)
			put(recv, dtype, i, rank == root ? value_of(root, i) : -1);
		OK(sl_comm_broadcast(context, comm, recv, n, dtype, root, SL_COMM_ON_HOST, NULL));
		for (int64_t i = 0; i < n; i++)
			CHECK(get(recv, dtype, i) == value_of(root, i));
	}
}

/* Many at once, waited for in another order than they were begun in. */
static void many(float *data) {
	enum { AT_ONCE = 60, EACH = 50 };
	sl_comm_request requests[AT_ONCE];
	for (int k = 0; k < AT_ONCE; k++) {
		for (int i = 0; i < EACH; i++)
			data[k * EACH + i] = (float)(rank + k);
		OK(sl_comm_all_reduce(context, comm, data + k * EACH, data + k * EACH, EACH, SL_F32, SL_COMM_SUM,
							  SL_COMM_ON_HOST, &requests[k]));
	}
	for (int k = AT_ONCE - 1; k >= 0; k--) {
		OK(sl_comm_wait(context, comm, &requests[k]));
		CHECK(requests[k] == 0);
		for (int i = 0; i < EACH; i++)
			CHECK(data[k * EACH + i] == (float)(k * size + size * (size - 1) / 2));
	}
}

void test_collectives(int argc, char **argv) {
	static const sl_dtype dtypes[] = {SL_F32, SL_F64, SL_I32, SL_I64};
	static const int64_t counts[] = {1, 3, 64, 1001, MOST};
	(void)argc, (void)argv;
	void *send = malloc(MOST * 8 * (size_t)size), *recv = malloc(MOST * 8 * (size_t)size);
	CHECK(send && recv);
	for (int d = 0; d < 4; d++)
		for (int c = 0; c < 5; c++) {
			reductions(dtypes[d], counts[c], send, recv);
			movements(dtypes[d], counts[c], send, recv);
		}
	many(recv);
	OK(sl_comm_all_reduce(context, comm, send, recv, 0, SL_F32, SL_COMM_SUM, SL_COMM_ON_HOST, NULL));
	OK(sl_comm_barrier(context, comm));
	OK(sl_comm_agree(context, comm, "the weather", 42));
	/* All but the last rank say 1. Of two, the first is right. */
	sl_status status = sl_comm_agree(context, comm, "the weather", rank == size - 1 && size > 1 ? 2 : 1);
	if (size > 1) {
		char text[64];
		snprintf(text, sizeof text, "rank %d of %d", size - 1, size);
		CHECK(status == SL_ERR_DISAGREE && strstr(sl_context_message(context), text));
		CHECK(strstr(sl_context_message(context), "the weather"));
	} else {
		OK(status);
	}
	/* A second communicator lives beside the first. */
	sl_comm *other = NULL;
	OK(sl_comm_create(&other, context,
					  &(sl_comm_options){SL_COMM_DEFAULTS, .kind = sl_comm_get_kind(comm), .no_thread = true}));
	CHECK(sl_comm_rank(other) == rank && sl_comm_size(other) == size);
	OK(sl_comm_barrier(context, other));
	sl_comm_destroy(other);
	free(send);
	free(recv);
}
