/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a kernel sees of a GPU, on the host: indices, barriers, collectives of a warp, shared memory, atomics and
 * vectors. Included by cuda/kernels/device.cuh where the compiler is not nvcc.
 */
#ifndef SL_TESTS_FIBERS_HPP
#define SL_TESTS_FIBERS_HPP

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>
#include <vector>

#include "fibers.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
	unsigned x, y, z;
	dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {
	}
};

namespace sl_fibers {

/* Of the thread that runs. */
extern dim3 thread_index, block_index, block_size, grid_size;

/* Keep the fault and abandon the launch; does not return. */
[[noreturn]] void fault(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));

void sync_block(const char *file, int line);
/* Wait for the other threads of `mask`, at the same line and with the same kind of collective, and get what each of
 * them gave: 32 slots of SLOT bytes, which stay until the next collective of this thread. */
enum { SLOT = 64 };
enum collective { SYNC_WARP, SHUFFLE, BALLOT, MATRIX };
const unsigned char *collect(collective kind, unsigned mask, const void *given, size_t bytes, const char *file,
							 int line);
unsigned lane();

/* Whether a GPU would launch it; run() runs it. */
bool may_launch(dim3 grid, dim3 block);
void run(const char *name, dim3 grid, dim3 block, const std::function<void()> &body);

/* A launch as plain data, so that it can be queued and replayed. */
template <class F> struct task {
	const char *name;
	dim3 grid, block;
	F body;
};
template <class F> void run_task(void *argument) {
	const task<F> *t = static_cast<const task<F> *>(argument);
	run(t->name, t->grid, t->block, t->body);
}
template <class F> int launch(const char *name, dim3 grid, dim3 block, void *stream, F body) {
	static_assert(std::is_trivially_copyable<F>::value, "kernels take plain parameters");
	if (!may_launch(grid, block))
		return 9; /* cudaErrorInvalidConfiguration */
	const task<F> t = {name, grid, block, body};
	return sl_fibers_submit(name, stream, run_task<F>, &t, sizeof t);
}

template <class T> T shuffle_from(unsigned mask, T value, unsigned source, const char *file, int line) {
	static_assert(sizeof(T) <= 8, "a shuffle moves 4 or 8 bytes");
	const unsigned char *slots = collect(SHUFFLE, mask, &value, sizeof value, file, line);
	if (!(mask >> (source & 31) & 1))
		fault(file, line, "a shuffle reads lane %u, which takes no part in mask %08x", source & 31, mask);
	T out;
	std::memcpy(&out, slots + (source & 31) * SLOT, sizeof out);
	return out;
}

/* Within groups of `width` lanes, as the instruction does it: who would read outside its group gets its own. */
template <class T> T shuffle(unsigned mask, T value, int source, int width, const char *file, int line) {
	unsigned own = lane(), base = own & ~unsigned(width - 1);
	return shuffle_from(mask, value, base | (unsigned(source) & unsigned(width - 1)), file, line);
}
template <class T> T shuffle_xor(unsigned mask, T value, int by, int width, const char *file, int line) {
	unsigned own = lane(), to = own ^ unsigned(by);
	return shuffle_from(mask, value, (to & ~unsigned(width - 1)) > (own & ~unsigned(width - 1)) ? own : to, file, line);
}
template <class T> T shuffle_down(unsigned mask, T value, unsigned by, int width, const char *file, int line) {
	unsigned own = lane(), at = own & unsigned(width - 1);
	return shuffle_from(mask, value, at + by < unsigned(width) ? own + by : own, file, line);
}
template <class T> T shuffle_up(unsigned mask, T value, unsigned by, int width, const char *file, int line) {
	unsigned own = lane(), at = own & unsigned(width - 1);
	return shuffle_from(mask, value, at >= by ? own - by : own, file, line);
}
unsigned ballot(unsigned mask, bool predicate, const char *file, int line);

/* Shared memory: every access is checked against its bounds, for having been written in this block, and for being
 * ordered by a barrier with the accesses of other threads to the same element. */
struct shared_block;
shared_block *new_shared(size_t elements, size_t size, const char *name, const char *file, int line);
unsigned char *access_shared(shared_block *block, int64_t index, bool write);

template <class T> class shared_reference {
  public:
	shared_reference(shared_block *block, int64_t index) : block_(block), index_(index) {
	}
	operator T() const {
		T value;
		std::memcpy(&value, access_shared(block_, index_, false), sizeof value);
		return value;
	}
	const shared_reference &operator=(const T &value) const {
		std::memcpy(access_shared(block_, index_, true), &value, sizeof value);
		return *this;
	}
	const shared_reference &operator=(const shared_reference &other) const {
		return *this = T(other);
	}
	const shared_reference &operator+=(const T &value) const {
		return *this = T(T(*this) + value);
	}

  private:
	shared_block *block_;
	int64_t index_;
};

template <class T> class shared_array {
  public:
	shared_array(shared_block *block, int64_t offset) : block_(block), offset_(offset) {
	}
	shared_reference<T> operator[](int64_t index) const {
		return shared_reference<T>(block_, offset_ + index);
	}
	shared_array operator+(int64_t by) const {
		return shared_array(block_, offset_ + by);
	}

  private:
	shared_block *block_;
	int64_t offset_;
};

/* Another thread may come before and after. */
void preempt();

template <class T, class F> T atomic(T *address, F change) {
	preempt();
	T old = *address;
	*address = change(old);
	preempt();
	return old;
}

} // namespace sl_fibers

#define threadIdx                                (::sl_fibers::thread_index)
#define blockIdx                                 (::sl_fibers::block_index)
#define blockDim                                 (::sl_fibers::block_size)
#define gridDim                                  (::sl_fibers::grid_size)
#define __syncthreads()                          ::sl_fibers::sync_block(__FILE__, __LINE__)
#define __syncwarp(mask)                         ((void)::sl_fibers::collect(::sl_fibers::SYNC_WARP, mask, "", 0, __FILE__, __LINE__))
#define __shfl_sync(mask, value, source, width)  ::sl_fibers::shuffle(mask, value, source, width, __FILE__, __LINE__)
#define __shfl_xor_sync(mask, value, by, width)  ::sl_fibers::shuffle_xor(mask, value, by, width, __FILE__, __LINE__)
#define __shfl_down_sync(mask, value, by, width) ::sl_fibers::shuffle_down(mask, value, by, width, __FILE__, __LINE__)
#define __shfl_up_sync(mask, value, by, width)   ::sl_fibers::shuffle_up(mask, value, by, width, __FILE__, __LINE__)
#define __ballot_sync(mask, predicate)           ::sl_fibers::ballot(mask, predicate, __FILE__, __LINE__)

template <class T> T atomicAdd(T *address, T value) {
	return ::sl_fibers::atomic(address, [=](T old) { return T(old + value); });
}
template <class T> T atomicMax(T *address, T value) {
	return ::sl_fibers::atomic(address, [=](T old) { return old > value ? old : value; });
}
template <class T> T atomicMin(T *address, T value) {
	return ::sl_fibers::atomic(address, [=](T old) { return old < value ? old : value; });
}
template <class T> T atomicCAS(T *address, T expected, T value) {
	return ::sl_fibers::atomic(address, [=](T old) { return old == expected ? value : old; });
}

/* One array for all blocks and launches: they run one after another, and what a block finds there is nobody's. */
#define SL_SHARED(type, name, count)                                                                                   \
	static_assert(std::is_trivially_copyable<type>::value, "shared memory holds plain data");                          \
	static ::sl_fibers::shared_block *const name##_block =                                                             \
		::sl_fibers::new_shared(count, sizeof(type), #name, __FILE__, __LINE__);                                       \
	const ::sl_fibers::shared_array<type> name(name##_block, 0)
#define SL_SHARED_ARRAY(type) ::sl_fibers::shared_array<type>

/* A vector of N elements at an address that must be a multiple of its size. */
template <class V> static inline void sl_check_alignment(const void *address, const char *file, int line) {
	if (reinterpret_cast<uintptr_t>(address) % sizeof(V))
		::sl_fibers::fault(file, line, "a vector of %zu bytes at %p, which is no multiple of them", sizeof(V), address);
}
#define SL_CHECK_ALIGNMENT(V, address) sl_check_alignment<V>(address, __FILE__, __LINE__)
#endif
