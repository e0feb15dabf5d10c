/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One op on both backends: the CPU's, and the CUDA module's over the fake runtime (or, linked with the real libraries,
 * a GPU). Arguments point into blocks of host memory; for the GPU the blocks are copied and the pointers moved.
 */
#ifndef SL_TESTS_BOTH_H
#define SL_TESTS_BOTH_H

#include <float.h>
#include <stdarg.h>

#include <cuda_runtime_api.h>

#include "backend/backend.h"
#include "core/context.h"
#include "core/half.h"
#include "sparse/sparse.h"
#include "fake_cuda.h"
#include "support/check.h"
#include "support/views.h"

SL_API const sl_backend *sl_backend_module(uint32_t abi);

enum { BOTH_BLOCKS = 24 };

typedef struct both {
	sl_context *context; /* the CPU's */
	sl_host host;        /* the module's */
	const sl_backend *gpu;
	void *device;
	char message[512];
	struct {
		unsigned char *from; /* of the test's */
		size_t bytes;
		unsigned char *cpu, *result; /* what each backend made of it */
		void *gpu;
	} block[BOTH_BLOCKS];
	int blocks;
} both;

static inline sl_status both_fail(void *user, sl_status status, const char *format, ...) {
	both *t = user;
	va_list list;
	va_start(list, format);
	vsnprintf(t->message, sizeof t->message, format, list);
	va_end(list);
	return status;
}
static inline void both_log(void *user, sl_log_level level, const char *line) {
	(void)user, (void)level, (void)line;
}
static inline void *both_allocate(void *user, size_t bytes) {
	(void)user;
	return aligned_alloc(64, (bytes + 64) / 64 * 64);
}
static inline void both_release(void *user, void *pointer, size_t bytes) {
	(void)user, (void)bytes;
	free(pointer);
}
static inline bool both_reserve(void *user, size_t bytes) {
	(void)user, (void)bytes;
	return true;
}
static inline void both_unreserve(void *user, size_t bytes) {
	(void)user, (void)bytes;
}

/* Skips the test where there is neither the fake nor a GPU. */
static inline both *both_open(void) {
	int gpus = 0;
	fake_cuda_discard();
	if (!fake_cuda_present() && (cudaGetDeviceCount(&gpus) != cudaSuccess || !gpus))
		sl_test_skip("no GPU");
	both *t = calloc(1, sizeof *t);
#ifndef SL_TESTS_ALONE /* scripts/gpu builds the module without the library: what compares with the CPU is skipped     \
						  there */
	t->context = sl_test_context();
#endif
	t->host = (sl_host){.abi = SL_BACKEND_ABI,
						.user = t,
						.fail = both_fail,
						.log = both_log,
						.allocate = both_allocate,
						.release = both_release,
						.reserve = both_reserve,
						.unreserve = both_unreserve,
						.threads = 1};
	t->gpu = sl_backend_module(SL_BACKEND_ABI);
	CHECK(t->gpu);
	if (t->gpu->open(&t->host, &t->device) != SL_OK)
		sl_test_fail(__FILE__, __LINE__, "%s", t->message);
	return t;
}

static inline void both_good(const both *t, sl_status status, const char *what) {
	if (status != SL_OK)
		sl_test_fail(__FILE__, __LINE__, "%s: %s: %s", what, sl_status_name(status), t->message);
	if (*fake_cuda_fault())
		sl_test_fail(__FILE__, __LINE__, "%s: misuse: %s", what, fake_cuda_fault());
}

static inline void both_forget(both *t) {
	for (int i = 0; i < t->blocks; i++) {
		free(t->block[i].cpu);
		free(t->block[i].result);
		if (t->block[i].gpu)
			t->gpu->release(t->device, t->block[i].gpu, t->block[i].bytes, SL_MEMORY_DEVICE);
	}
	t->blocks = 0;
}

static inline void both_close(both *t) {
	both_forget(t);
	t->gpu->close(t->device);
	sl_context_destroy(t->context);
	CHECK(!*fake_cuda_fault());
	CHECK_EQ(fake_cuda_live(), 0);
	free(t);
}

/* Memory that the next op uses; what it makes of it is read back by both_cpu() and both_gpu(). */
static inline void both_block(both *t, void *data, size_t bytes) {
	CHECK(t->blocks < BOTH_BLOCKS);
	t->block[t->blocks].from = data;
	t->block[t->blocks].bytes = bytes;
	t->block[t->blocks].cpu = t->block[t->blocks].result = NULL;
	t->block[t->blocks++].gpu = NULL;
}
static inline void both_view(both *t, const view_block *v) {
	both_block(t, v->bytes, 2 * VIEW_GUARD + (size_t)v->elements * sl_dtype_size(v->view.dtype));
}

enum { BOTH_TEST, BOTH_CPU, BOTH_GPU, BOTH_RESULT };

static inline void *both_move(const both *t, const void *pointer, int to) {
	const unsigned char *p = pointer;
	/* The end of a block only where no other begins there. */
	for (int end = 0; end < 2; end++)
		for (int i = 0; i < t->blocks && p; i++) {
			const unsigned char *from = t->block[i].from;
			if (p < from || p >= from + t->block[i].bytes + end)
				continue;
			unsigned char *base = to == BOTH_CPU   ? t->block[i].cpu
								  : to == BOTH_GPU ? t->block[i].gpu
												   : t->block[i].result;
			return base + (p - from);
		}
	return (void *)(uintptr_t)pointer;
}
static inline void *both_cpu(const both *t, const void *pointer) {
	return both_move(t, pointer, BOTH_CPU);
}
static inline void *both_gpu(const both *t, const void *pointer) {
	return both_move(t, pointer, BOTH_RESULT);
}

#define BOTH_MOVE(field) field = both_move(t, field, to)

static inline void both_move_pattern(const both *t, sl_pattern_arrays *p, int to) {
	BOTH_MOVE(p->row_offsets);
	BOTH_MOVE(p->col_indices);
}

/* Copies of what desc and args point at, moved. */
typedef struct both_call {
	sl_op_desc desc;
	sl_op_args args;
	sl_sparse_batch batch;
	sl_sparse_groups groups;
} both_call;

static inline void both_move_call(const both *t, const sl_op_desc *desc, const sl_op_args *args, int to, both_call *c) {
	c->desc = *desc;
	c->args = *args;
	both_move_pattern(t, &c->desc.sparse.arrays, to);
	both_move_pattern(t, &c->desc.sparse.transposed, to);
	BOTH_MOVE(c->desc.sparse.permutation);
	BOTH_MOVE(c->args.a.data);
	BOTH_MOVE(c->args.b.data);
	BOTH_MOVE(c->args.c.data);
	BOTH_MOVE(c->args.d.data);
	BOTH_MOVE(c->args.values);
	BOTH_MOVE(c->args.values_out);
	BOTH_MOVE(c->args.bias);
	BOTH_MOVE(c->args.bias_gradient);
	BOTH_MOVE(c->args.labels);
	BOTH_MOVE(c->args.result);
	BOTH_MOVE(c->args.update);
	for (int i = 0; i < 4; i++)
		BOTH_MOVE(c->args.vector[i]);
	if (args->batch) {
		c->batch = *args->batch;
		BOTH_MOVE(c->batch.begins);
		BOTH_MOVE(c->batch.ends);
		BOTH_MOVE(c->batch.columns);
		BOTH_MOVE(c->batch.values);
		c->args.batch = &c->batch;
	}
	if (args->groups) {
		c->groups = *args->groups;
		BOTH_MOVE(c->groups.columns);
		BOTH_MOVE(c->groups.row_starts);
		BOTH_MOVE(c->groups.starts);
		BOTH_MOVE(c->groups.samples);
		BOTH_MOVE(c->groups.values);
		c->args.groups = &c->groups;
	}
}

#ifdef SL_TESTS_ALONE
static inline void both_run_cpu(both *t, const sl_op_desc *desc, const sl_op_args *args) {
	(void)desc, (void)args;
	both_forget(t);
	t->gpu->close(t->device);
	sl_test_skip("the CPU's kernels, to compare with, are not built here");
}
#else
static inline void both_run_cpu(both *t, const sl_op_desc *desc, const sl_op_args *args) {
	sl_device_state *cpu = sli_device(t->context);
	both_call call;
	sl_op_plan plan = {0};
	for (int i = 0; i < t->blocks; i++) {
		t->block[i].cpu = aligned_alloc(64, (t->block[i].bytes + 64) / 64 * 64);
		memcpy(t->block[i].cpu, t->block[i].from, t->block[i].bytes);
	}
	both_move_call(t, desc, args, BOTH_CPU, &call);
	call.desc.sparse.host = call.desc.sparse.arrays;
	call.desc.candidate = NULL;
	CHECK_OK(t->context, cpu->backend->plan(cpu->device, &call.desc, &plan));
	void *workspace = aligned_alloc(64, (plan.workspace + 64) / 64 * 64);
	call.args.workspace = workspace;
	CHECK_OK(t->context, cpu->backend->execute(cpu->device, &plan, &call.args));
	cpu->backend->destroy(cpu->device, &plan);
	free(workspace);
}

#endif

static inline void both_run_gpu(both *t, const sl_op_desc *desc, const sl_op_args *args) {
	both_call call;
	sl_op_plan plan = {0};
	void *workspace = NULL;
	for (int i = 0; i < t->blocks; i++) {
		size_t bytes = t->block[i].bytes ? t->block[i].bytes : 1;
		t->block[i].result = malloc(bytes);
		both_good(t, t->gpu->allocate(t->device, bytes, SL_MEMORY_DEVICE, &t->block[i].gpu), "allocate");
		both_good(t,
				  t->gpu->copy(t->device, t->block[i].gpu, SL_MEMORY_DEVICE, t->block[i].from, SL_MEMORY_HOST,
							   t->block[i].bytes),
				  "copy");
	}
	both_move_call(t, desc, args, BOTH_GPU, &call);
	call.desc.sparse.host = desc->sparse.arrays;
	call.desc.sparse.host_transposed = desc->sparse.transposed;
	both_good(t, t->gpu->supports(t->device, &call.desc), "supports");
	both_good(t, t->gpu->plan(t->device, &call.desc, &plan), "plan");
	if (plan.workspace)
		both_good(t, t->gpu->allocate(t->device, plan.workspace, SL_MEMORY_DEVICE, &workspace), "workspace");
	call.args.workspace = workspace;
	both_good(t, t->gpu->execute(t->device, &plan, &call.args), "execute");
	for (int i = 0; i < t->blocks; i++)
		both_good(t,
				  t->gpu->copy(t->device, t->block[i].result, SL_MEMORY_HOST, t->block[i].gpu, SL_MEMORY_DEVICE,
							   t->block[i].bytes),
				  "copy back");
	both_good(t, t->gpu->synchronize(t->device), plan.text);
	t->gpu->destroy(t->device, &plan);
	if (workspace)
		t->gpu->release(t->device, workspace, plan.workspace, SL_MEMORY_DEVICE);
	both_good(t, SL_OK, plan.text);
}

/* What is written must be the same bits but where elements of views differ by rounding: compare those with
 * both_compare(), everything else with this. Guards around views are part of their blocks. */
static inline void both_run(both *t, const sl_op_desc *desc, const sl_op_args *args) {
	both_run_cpu(t, desc, args);
	both_run_gpu(t, desc, args);
}

/* A view's elements, and that nothing around them was touched. |gpu - cpu| <= bound(|cpu|) */
static inline void both_compare(const both *t, const view_block *v, double relative, double absolute) {
	view_block cpu = *v, gpu = *v;
	cpu.bytes = both_cpu(t, v->bytes);
	gpu.bytes = both_gpu(t, v->bytes);
	cpu.view.data = both_cpu(t, v->view.data);
	gpu.view.data = both_gpu(t, v->view.data);
	CHECK(view_intact(&cpu) && view_intact(&gpu));
	for (int64_t r = 0; r < v->view.rows; r++)
		for (int64_t c = 0; c < v->view.cols; c++) {
			double x = view_load(&cpu.view, r, c), y = view_load(&gpu.view, r, c);
			if (!(isnan(x) ? isnan(y) : x == y || fabs(x - y) <= relative * fabs(x) + absolute))
				sl_test_fail(__FILE__, __LINE__, "(%lld, %lld) of %s in order %d: %.17g on the GPU, %.17g on the CPU",
							 (long long)r, (long long)c, sl_dtype_name(v->view.dtype), v->view.order, y, x);
		}
}

static inline sl_matrix_desc both_desc(const sl_dense *m) {
	return (sl_matrix_desc){m->rows, m->cols, m->ld, m->dtype, m->order};
}

#endif
