/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NCCL module's own source on the fake GPU and the fake NCCL, ranks being processes: started by run.py, or alone.
 * Usage: nccl_ranks TEST [FOLDER]
 */
#include <cuda_runtime_api.h>
#include <nccl.h>
#include <unistd.h>

#include "../ranks/ranks.h"
#include "backend/comm.h"
#include "backend/registry.h"
#include "fake_cuda.h"
#include "fake_nccl.h"

sl_context *context;
sl_comm *comm;
int rank, size;

const sl_carrier *sparselayer_carrier(uint32_t abi);
const sl_carrier *__real_sli_carrier_load(sl_comm_kind kind, void **handle, char *why, size_t why_size);
const sl_carrier *__wrap_sli_carrier_load(sl_comm_kind kind, void **handle, char *why, size_t why_size);

const sl_carrier *__wrap_sli_carrier_load(sl_comm_kind kind, void **handle, char *why, size_t why_size) {
	if (kind != SL_COMM_NCCL)
		return __real_sli_carrier_load(kind, handle, why, why_size);
	*handle = NULL;
	return sparselayer_carrier(SL_CARRIER_ABI);
}

#define CUDA(call) CHECK((call) == cudaSuccess)

static void open_context(cudaStream_t stream) {
	char why[256] = "";
	if (sl_context_create(&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CUDA, .seed = 7,
														  .stream = stream, .error = why, .error_size = sizeof why})) {
		fprintf(stderr, "no context: %s\n", why);
		exit(1);
	}
}

static void open_ranks(double timeout) {
	OK(sl_comm_create(&comm, context, &(sl_comm_options){SL_COMM_DEFAULTS, .kind = SL_COMM_NCCL, .timeout = timeout}));
	rank = sl_comm_rank(comm);
	size = sl_comm_size(comm);
	CHECK(sl_comm_get_kind(comm) == SL_COMM_NCCL && strstr(sl_comm_describe(comm), "NCCL"));
}

static void close_all(cudaStream_t stream) {
	sl_comm_destroy(comm);
	comm = NULL;
	sl_context_destroy(context);
	if (stream)
		CUDA(cudaStreamDestroy(stream));
	if (*fake_cuda_fault() || fake_cuda_live() || fake_nccl_live()) {
		fprintf(stderr, "rank %d: %s; %ld of CUDA and %ld of NCCL live\n", rank, fake_cuda_fault(), fake_cuda_live(),
				fake_nccl_live());
		exit(1);
	}
}

/* Device memory with whole numbers: sums are exact in all dtypes. */
static void put(void *device, sl_dtype dtype, int64_t count, int64_t seed) {
	static double host[4096];
	for (int64_t i = 0; i < count; i++) {
		double v = (double)((seed * 7 + i) % 13 - 6);
		if (dtype == SL_F64)
			host[i] = v;
		else if (dtype == SL_F32)
			((float *)host)[i] = (float)v;
		else if (dtype == SL_I64)
			((int64_t *)host)[i] = (int64_t)v;
		else if (dtype == SL_I32)
			((int32_t *)host)[i] = (int32_t)v;
		else if (dtype == SL_F16)
			((_Float16 *)host)[i] = (_Float16)v;
		else { /* bf16: the upper half of a float */
			float f = (float)v;
			memcpy((uint16_t *)host + i, (const char *)&f + 2, 2);
		}
	}
	CUDA(cudaMemcpyAsync(device, host, (size_t)count * sl_dtype_size(dtype), cudaMemcpyHostToDevice, NULL));
	CUDA(cudaStreamSynchronize(NULL));
}

static double value_at(const void *host, sl_dtype dtype, int64_t i) {
	float f = 0;
	switch (dtype) {
	case SL_F64:
		return ((const double *)host)[i];
	case SL_F32:
		return ((const float *)host)[i];
	case SL_I64:
		return (double)((const int64_t *)host)[i];
	case SL_I32:
		return ((const int32_t *)host)[i];
	case SL_F16:
		return (double)((const _Float16 *)host)[i];
	default:
		memcpy((char *)&f + 2, (const uint16_t *)host + i, 2);
		return f;
	}
}

static double given_at(int r, int64_t i) {
	return (double)((r * 7 + i) % 13 - 6);
}

static void expect(const void *device, sl_dtype dtype, int64_t count, double (*wanted)(int64_t i, int64_t n),
				   int64_t n) {
	static double host[8 * 4096];
	CUDA(cudaMemcpyAsync(host, device, (size_t)count * sl_dtype_size(dtype), cudaMemcpyDeviceToHost, NULL));
	CUDA(cudaStreamSynchronize(NULL));
	for (int64_t i = 0; i < count; i++)
		CHECK(value_at(host, dtype, i) == wanted(i, n));
}

static double summed(int64_t i, int64_t n) {
	double sum = 0;
	(void)n;
	for (int r = 0; r < size; r++)
		sum += given_at(r, i);
	return sum;
}
static double largest(int64_t i, int64_t n) {
	double most = given_at(0, i);
	(void)n;
	for (int r = 1; r < size; r++)
		most = fmax(most, given_at(r, i));
	return most;
}
static double scattered(int64_t i, int64_t n) {
	return summed(rank * n + i, n);
}
static double gathered(int64_t i, int64_t n) {
	return given_at((int)(i / n), i % n);
}
static double exchanged(int64_t i, int64_t n) {
	return given_at((int)(i / n), rank * n + i % n);
}
static double from_last(int64_t i, int64_t n) {
	(void)n;
	return given_at(size - 1, i);
}

/* Every call on memory of the GPU; with requests, so that what follows on a stream of the caller's waits by itself. */
static void on_device(sl_dtype dtype, int64_t n) {
	size_t bytes = (size_t)(n * size) * sl_dtype_size(dtype);
	void *a, *b;
	sl_comm_request request;
	CUDA(cudaMalloc(&a, bytes));
	CUDA(cudaMalloc(&b, bytes));
	put(a, dtype, n, rank);
	OK(sl_comm_all_reduce(context, comm, a, b, n, dtype, SL_COMM_SUM, SL_COMM_ON_DEVICE, &request));
	OK(sl_comm_wait(context, comm, &request));
	OK(sl_context_synchronize(context));
	expect(b, dtype, n, summed, n);
	OK(sl_comm_all_reduce(context, comm, a, a, n, dtype, SL_COMM_MAX, SL_COMM_ON_DEVICE, NULL));
	OK(sl_context_synchronize(context));
	expect(a, dtype, n, largest, n);
	put(a, dtype, n * size, rank);
	OK(sl_comm_reduce_scatter(context, comm, a, b, n, dtype, SL_COMM_SUM, SL_COMM_ON_DEVICE, NULL));
	OK(sl_context_synchronize(context));
	expect(b, dtype, n, scattered, n);
	OK(sl_comm_all_to_all(context, comm, a, b, n, dtype, SL_COMM_ON_DEVICE, NULL));
	OK(sl_context_synchronize(context));
	expect(b, dtype, n * size, exchanged, n);
	OK(sl_comm_all_gather(context, comm, a, b, n, dtype, SL_COMM_ON_DEVICE, NULL));
	OK(sl_context_synchronize(context));
	expect(b, dtype, n * size, gathered, n);
	OK(sl_comm_broadcast(context, comm, a, n, dtype, size - 1, SL_COMM_ON_DEVICE, NULL));
	OK(sl_context_synchronize(context));
	expect(a, dtype, n, from_last, n);
	CUDA(cudaFree(a));
	CUDA(cudaFree(b));
}

static void calls(cudaStream_t stream) {
	static const sl_dtype dtypes[] = {SL_F32, SL_F64, SL_BF16, SL_F16, SL_I32, SL_I64};
	open_context(stream);
	open_ranks(10);
	for (int d = 0; d < 6; d++)
		for (int64_t n = 1; n < 1000; n *= 31)
			on_device(dtypes[d], n);
	OK(sl_comm_barrier(context, comm));
	test_collectives(0, NULL); /* host buffers, by way of the device */
	sl_comm *part;
	OK(sl_comm_split(&part, context, comm, rank % 2, -rank));
	CHECK(sl_comm_size(part) == (size + 1 - rank % 2) / 2);
	int64_t sum = rank;
	OK(sl_comm_all_reduce(context, part, &sum, &sum, 1, SL_I64, SL_COMM_SUM, SL_COMM_ON_HOST, NULL));
	int64_t wanted = 0;
	for (int r = rank % 2; r < size; r += 2)
		wanted += r;
	CHECK(sum == wanted);
	sl_comm_destroy(part);
	close_all(stream);
}

static void test_calls(const char *folder) {
	cudaStream_t stream;
	(void)folder;
	calls(NULL);
	CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
	calls(stream);
}

/* An id that the caller carries, and a communicator of the caller's. */
static void test_given(const char *folder) {
	char id[SL_COMM_ID_BYTES], path[512];
	open_context(NULL);
	const char *place = getenv("OMPI_COMM_WORLD_RANK"), *all = getenv("OMPI_COMM_WORLD_SIZE");
	rank = place ? atoi(place) : 0;
	size = all ? atoi(all) : 1;
	snprintf(path, sizeof path, "%s/id", folder);
	if (rank == 0) {
		char other[520];
		OK(sl_comm_unique_id(context, id));
		snprintf(other, sizeof other, "%s.new", path);
		FILE *file = fopen(other, "wb");
		CHECK(file && fwrite(id, sizeof id, 1, file) == 1 && !fclose(file) && !rename(other, path));
	}
	FILE *file = NULL;
	for (int turn = 0; turn < 20000 && !(file = fopen(path, "rb")); turn++)
		usleep(1000);
	CHECK(file && fread(id, sizeof id, 1, file) == 1 && !fclose(file));
	OK(sl_comm_create(&comm, context,
					  &(sl_comm_options){SL_COMM_DEFAULTS, .kind = SL_COMM_NCCL, .unique_id = id, .rank = rank,
										 .size = size, .timeout = 10}));
	CHECK(sl_comm_rank(comm) == rank && sl_comm_size(comm) == size);
	/* The next id over the first communicator. */
	ncclUniqueId next;
	ncclComm_t own;
	if (rank == 0)
		CHECK(ncclGetUniqueId(&next) == ncclSuccess);
	OK(sl_comm_broadcast(context, comm, &next, sizeof next / 8, SL_I64, 0, SL_COMM_ON_HOST, NULL));
	CHECK(ncclCommInitRank(&own, size, next, rank) == ncclSuccess);
	sl_comm_destroy(comm);
	OK(sl_comm_create(&comm, context,
					  &(sl_comm_options){SL_COMM_DEFAULTS, .kind = SL_COMM_NCCL, .nccl_comm = own, .rank = rank,
										 .size = size, .timeout = 10}));
	CHECK(sl_comm_rank(comm) == rank && sl_comm_size(comm) == size);
	on_device(SL_F32, 100);
	sl_comm_destroy(comm);
	comm = NULL;
	CHECK(fake_nccl_live() == 1 && ncclCommDestroy(own) == ncclSuccess); /* it was borrowed */
	close_all(NULL);
}

/* A rank that goes: the others hear of it in time, from each kind of wait. */
static void test_gone(const char *folder) {
	(void)folder;
	open_context(NULL);
	open_ranks(1);
	OK(sl_comm_barrier(context, comm));
	if (rank == size - 1)
		_exit(0);
	sl_status status = sl_comm_barrier(context, comm);
	CHECK(status == SL_ERR_COMM && strstr(sl_context_message(context), "in vain"));
	int64_t one = 1;
	CHECK(sl_comm_all_reduce(context, comm, &one, &one, 1, SL_I64, SL_COMM_SUM, SL_COMM_ON_HOST, NULL) == SL_ERR_COMM);
	fprintf(stderr, "rank %d noticed\n", rank);
	sl_comm_abort(comm, 3);
}

/* MPI carried the id, was finalised, and cannot carry another: a status. With an MPI communicator kept it can. */
static void test_again(const char *folder) {
	(void)folder;
	open_context(NULL);
	open_ranks(10);
	sl_comm_destroy(comm);
	sl_status status = sl_comm_create(&comm, context, &(sl_comm_options){SL_COMM_DEFAULTS, .kind = SL_COMM_NCCL});
	if (status != SL_ERR_STATE || !strstr(sl_context_message(context), "finalised")) {
		fprintf(stderr, "again: %s: %s\n", sl_status_name(status), sl_context_message(context));
		exit(1);
	}
	comm = NULL;
	close_all(NULL);
}

/* The k-th call of CUDA or NCCL fails, for every k: a status with a message, and nothing left. */
static sl_status all_calls(sl_context *c) {
	sl_comm *one = NULL, *part = NULL;
	float host[4] = {1, 2, 3, 4}, twice[8];
	sl_status status =
		sl_comm_create(&one, c, &(sl_comm_options){SL_COMM_DEFAULTS, .kind = SL_COMM_NCCL, .timeout = 5});
	if (status == SL_OK)
		status = sl_comm_all_reduce(c, one, host, host, 4, SL_F32, SL_COMM_SUM, SL_COMM_ON_HOST, NULL);
	if (status == SL_OK)
		status = sl_comm_reduce_scatter(c, one, host, twice, 4, SL_F32, SL_COMM_SUM, SL_COMM_ON_HOST, NULL);
	if (status == SL_OK)
		status = sl_comm_all_to_all(c, one, host, twice, 4, SL_F32, SL_COMM_ON_HOST, NULL);
	if (status == SL_OK)
		status = sl_comm_broadcast(c, one, host, 4, SL_F32, 0, SL_COMM_ON_HOST, NULL);
	if (status == SL_OK)
		status = sl_comm_barrier(c, one);
	if (status == SL_OK)
		status = sl_comm_split(&part, c, one, 0, 0);
	sl_comm_destroy(part);
	sl_comm_destroy(one);
	return status;
}

static void test_failing(const char *folder) {
	(void)folder;
	size = 1;
	open_context(NULL);
	OK(all_calls(context));
	int failed = 0;
	for (long k = 0;; k++) {
		long live_before = fake_cuda_live();
		fake_cuda_fail_at(k);
		sl_status status = all_calls(context);
		bool came = *fake_cuda_failed();
		char name[64];
		snprintf(name, sizeof name, "%s", fake_cuda_failed());
		fake_cuda_fail_at(-1);
		if (!came)
			break;
		if (status != SL_OK) {
			failed++;
			if (!sl_context_message(context)[0]) {
				fprintf(stderr, "%s failed without a message\n", name);
				exit(1);
			}
		}
		OK(sl_context_trim(context)); /* what was released is freed */
		if (fake_cuda_live() > live_before || fake_nccl_live()) {
			fprintf(stderr, "%s failed: %ld of CUDA and %ld of NCCL are left\n", name, fake_cuda_live() - live_before,
					fake_nccl_live());
			exit(1);
		}
	}
	CHECK(failed > 60);
	printf("%d calls failed in turn\n", failed);
	close_all(NULL);
}

/* MPI ends with its last communicator and cannot begin again: one is kept while ids are carried by others. */
static sl_context *host;
static sl_comm *kept;

static void keep_mpi(void) {
	context = NULL;
	CHECK(sl_context_create(&host, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU}) == SL_OK);
	CHECK(sl_comm_create(&kept, host, NULL) == SL_OK);
}

int main(int argc, char **argv) {
	static const struct {
		const char *name;
		void (*run)(const char *folder);
	} tests[] = {{"calls", test_calls},
				 {"given", test_given},
				 {"gone", test_gone},
				 {"failing", test_failing},
				 {"again", test_again}};
	for (size_t i = 0; argc > 1 && i < sizeof tests / sizeof *tests; i++)
		if (!strcmp(argv[1], tests[i].name)) {
			if (tests[i].run != test_again)
				keep_mpi();
			tests[i].run(argc > 2 ? argv[2] : "");
			sl_comm_destroy(kept);
			sl_context_destroy(host);
			return 0;
		}
	return 2;
}
