/* SPDX-License-Identifier: Apache-2.0 */
/* Losses and updates on the CUDA module and on the CPU. */
#include "both.h"

/* The CPU takes exponentials of f32 in f32, within (8 + |x|) eps, x being at most 8 here; the GPU in double. */
static double exponential_eps(sl_dtype dtype, int loss) {
	return dtype == SL_F32 && loss != SL_MEAN_SQUARED_ERROR ? 16 * 0x1p-24 : 0;
}

SL_TEST(cuda_train, losses_of_every_kind_and_order) {
	both *t = both_open();
	static const int64_t sizes[][2] = {{10, 33}, {1, 1}, {7, 64}, {9, 65}, {130, 3}, {5, 0}, {0, 5}};
	for (int loss = SL_SOFTMAX_CROSS_ENTROPY; loss <= SL_MEAN_SQUARED_ERROR; loss++)
		for (int d = 0; d < 2; d++)
			for (int o = 0; o < 16; o++)
				for (int kind = 0; kind < 3; kind++) { /* labels, dense targets, no gradient */
					int s = (o + loss + kind) % 7;
					int64_t features = sizes[s][0], batch = sizes[s][1];
					bool labels = kind != 1 && loss == SL_SOFTMAX_CROSS_ENTROPY;
					sl_dtype dtype = d ? SL_F64 : SL_F32;
					view_block a = view_create(dtype, (sl_order)(o & 3), features, batch, 16);
					view_block b = view_create(dtype, (sl_order)(o >> 2), features, batch, 8);
					view_block c = view_output(dtype, (sl_order)(o >> 2), features, batch, 16);
					int32_t *label = malloc((size_t)batch * 4 + 4);
					sl_loss_sums sums = {.loss = 1, .rows = 2, .correct = 3, .counted = 4, .bad_row = -1};
					view_fill(&a, 1, 3);
					view_fill(&b, 2, 1);
					if (features > 2 && batch > 2) { /* equal ones: the first counts */
						view_set(a.view.data, dtype, view_at(&a.view, 0, 1), 5);
						view_set(a.view.data, dtype, view_at(&a.view, 2, 1), 5);
						view_set(a.view.data, dtype, view_at(&a.view, 1, 2), NAN);
					}
					for (int64_t i = 0; i < batch; i++)
						label[i] = features ? (int32_t)(i * 7 % features) : 0;
					both_view(t, &a), both_view(t, &b), both_view(t, &c);
					both_block(t, label, (size_t)batch * 4), both_block(t, &sums, sizeof sums);
					sl_op_desc desc = {.kind = SL_OP_LOSS, .variant = loss, .a = both_desc(&a.view)};
					sl_op_args args = {.alpha = 0.5, .a = a.view, .result = &sums};
					if (labels && features) {
						args.labels = label;
					} else {
						desc.b = both_desc(&b.view);
						args.b = b.view;
					}
					if (kind != 2) {
						desc.c = both_desc(&c.view);
						args.c = c.view;
					}
					both_run(t, &desc, &args);
					double eps = exponential_eps(dtype, loss);
					if (kind != 2 && features && batch)
						both_compare(t, &c, 2 * view_eps(dtype) + 1e-12 + eps, 1e-12 + eps / (double)batch);
					const sl_loss_sums *x = both_cpu(t, &sums), *y = both_gpu(t, &sums);
					CHECK(isnan(x->loss) ? isnan(y->loss) : fabs(x->loss - y->loss) <= (1e-12 + eps) * fabs(x->loss));
					CHECK_EQ(y->rows, x->rows);
					CHECK_EQ(y->correct, x->correct);
					CHECK_EQ(y->counted, x->counted);
					CHECK_EQ(y->bad_row, -1);
					both_forget(t);
					view_free(&a), view_free(&b), view_free(&c), free(label);
				}
	both_close(t);
}

SL_TEST(cuda_train, a_label_out_of_range_is_told_and_nothing_else_is_written) {
	both *t = both_open();
	float a[3 * 40], c[3 * 40];
	int32_t label[40] = {0};
	sl_test_fill(a, SL_F32, 120, 1);
	memset(c, 7, sizeof c);
	label[39] = -1, label[35] = 3;
	sl_loss_sums sums = {.rows = 5, .bad_row = -1};
	both_block(t, a, sizeof a), both_block(t, c, sizeof c), both_block(t, label, sizeof label),
		both_block(t, &sums, sizeof sums);
	sl_dense av = sl_dense_view(a, SL_F32, 3, 40), cv = sl_dense_view(c, SL_F32, 3, 40);
	sl_op_desc desc = {
		.kind = SL_OP_LOSS, .variant = SL_SOFTMAX_CROSS_ENTROPY, .a = both_desc(&av), .c = both_desc(&cv)};
	sl_op_args args = {.alpha = 1, .a = av, .c = cv, .labels = label, .result = &sums};
	both_run(t, &desc, &args);
	CHECK(!memcmp(both_cpu(t, &sums), both_gpu(t, &sums), sizeof sums));
	CHECK_EQ(((const sl_loss_sums *)both_gpu(t, &sums))->bad_row, 35);
	CHECK(!memcmp(c, both_gpu(t, c), sizeof c));
	both_close(t);
}

SL_TEST(cuda_train, losses_of_sparse_targets) {
	both *t = both_open();
	enum { F = 21, N = 40 };
	static float a[F * N], c[F * N], values[F * N];
	static int32_t columns[F * N], begins[N], ends[N];
	for (int loss = SL_SOFTMAX_CROSS_ENTROPY; loss <= SL_MEAN_SQUARED_ERROR; loss++)
		for (int kind = 0; kind < 4; kind++) {
			bool only = kind & 1 && loss != SL_SOFTMAX_CROSS_ENTROPY, ones = kind & 2;
			int32_t nnz = 0;
			for (int i = 0; i < N; i++) {
				begins[i] = nnz;
				for (int r = 0; r < F; r++)
					if ((r * 7 + i * 5) % 11 < 3 && i % 4 != 2)
						columns[nnz++] = r;
				ends[i] = nnz;
			}
			sl_test_fill(a, SL_F32, F * N, 1);
			sl_test_fill(values, SL_F32, nnz, 2);
			sl_loss_sums sums = {.bad_row = -1};
			both_block(t, a, sizeof a), both_block(t, c, sizeof c), both_block(t, values, sizeof values);
			both_block(t, columns, sizeof columns), both_block(t, begins, sizeof begins),
				both_block(t, ends, sizeof ends);
			both_block(t, &sums, sizeof sums);
			sl_sparse_batch batch = {N, F, nnz, begins, ends, SL_I32, columns, ones ? NULL : values};
			sl_dense av = sl_dense_view(a, SL_F32, F, N), cv = sl_dense_view(c, SL_F32, F, N);
			sl_op_desc desc = {
				.kind = SL_OP_LOSS, .variant = loss, .a = both_desc(&av), .c = both_desc(&cv), .stored_only = only};
			sl_op_args args = {.alpha = 1, .a = av, .c = cv, .batch = &batch, .result = &sums};
			both_run(t, &desc, &args);
			const sl_loss_sums *x = both_cpu(t, &sums), *y = both_gpu(t, &sums);
			double eps = exponential_eps(SL_F32, loss);
			CHECK_NEAR(y->loss, x->loss, 1e-12 * fabs(x->loss) + eps * nnz);
			CHECK(y->rows == x->rows && y->correct == x->correct && y->counted == x->counted);
			const float *p = both_cpu(t, c), *q = both_gpu(t, c);
			for (int i = 0; i < F * N; i++)
				CHECK_NEAR(q[i], p[i], (FLT_EPSILON + eps) * fabs(p[i]) + 1e-12 + 2 * eps / N);
			both_forget(t);
		}
	both_close(t);
}

SL_TEST(cuda_train, updates_of_every_optimizer) {
	both *t = both_open();
	enum { N = 1030 };
	static double data[4][N];
	static const int64_t counts[] = {0, 1, 3, 4, 1024, 1029};
	for (int kind = SL_SGD; kind <= SL_ADAMW; kind++)
		for (int d = 0; d < 2; d++)
			for (int k = 0; k < 12; k++) {
				sl_dtype dtype = d ? SL_F64 : SL_F32;
				size_t size = sl_dtype_size(dtype), shift = k < 6 ? 0 : size; /* off the vectors' alignment */
				int64_t n = counts[k % 6];
				for (int i = 0; i < 4; i++) {
					sl_test_fill(data[i], dtype, N, (uint64_t)(i + 1));
					for (int64_t e = 0; e < N && i == 3; e++) /* squares */
						view_set(data[i], dtype, e, fabs(view_element(data[i], dtype, e)));
				}
				sl_update u = {.learning_rate = 0.01,
							   .momentum = 0.9,
							   .beta1 = 0.9,
							   .beta2 = 0.99,
							   .epsilon = 1e-8,
							   .correction1 = 0.19,
							   .correction2 = 0.0199,
							   .weight_decay = 0.1,
							   .l1 = k & 1 ? 1e-3 : 0,
							   .l2 = k & 1 ? 1e-2 : 0,
							   .l1_proximal = k & 2 ? 10 : 0,
							   .clip_value = k & 1 ? 0.5 : 0,
							   .gradient_factor = k & 2 ? 0.7 : 1};
				sl_op_desc desc = {.kind = SL_OP_UPDATE, .variant = kind, .a = {.dtype = dtype}, .count = n};
				sl_op_args args = {.count = n, .update = &u};
				for (int i = 0; i < 4; i++) {
					both_block(t, data[i], sizeof data[i]);
					args.vector[i] = (char *)data[i] + shift;
				}
				if (kind < SL_ADAM)
					args.vector[3] = NULL;
				if (kind == SL_SGD)
					args.vector[2] = NULL;
				both_block(t, &u, sizeof u);
				both_run(t, &desc, &args);
				for (int i = 0; i < 4; i++)
					for (int64_t e = 0; e < N; e++) {
						double x = view_element(both_cpu(t, data[i]), dtype, e),
							   y = view_element(both_gpu(t, data[i]), dtype, e);
						CHECK_NEAR(y, x, 16 * view_eps(dtype) * fabs(x) + 4 * view_eps(dtype));
					}
				both_forget(t);
			}
	both_close(t);
}
