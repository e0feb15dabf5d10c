/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instructions that CUDA's C++ has no name for, each with a twin for the host that follows the PTX ISA's text: products
 * of small matrices on tensor cores (mma.sync) and loads of their operands from shared memory (ldmatrix). All lanes of
 * a warp take part. What the ISA leaves open, the order and rounding of sums inside a product, the twin does in double.
 *
 * Which element a lane holds in a register, g = lane / 4, t = lane % 4 (PTX ISA, "Matrix Fragments for mma"):
 *   c[i]  of 16 x 8:  row g + 8 (i / 2), column 2 t + i % 2
 *   a[i]  of 16 x 16, 16 bits: row g + 8 (i % 2), columns 2 t + 8 (i / 2) and the next, the first in the low half
 *   b[i]  of 16 x 8,  16 bits: rows 2 t + 8 i and the next, column g
 *   a[i]  of 16 x 8,  TF32: row g + 8 (i % 2), column t + 4 (i / 2)
 *   b[i]  of 8 x 8,   TF32: row t + 4 i, column g
 */
#ifndef SL_CUDA_KERNELS_PTX_CUH
#define SL_CUDA_KERNELS_PTX_CUH

#include "numbers.cuh"

/* A float rounded to TF32's 10 bits of fraction, ties away from zero; infinities and NaNs stay. */
SL_DEVICE float sl_to_tf32(float x) {
#ifdef __CUDACC__
	unsigned bits;
	asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
	return sl_float_of(bits);
#else
	unsigned bits = sl_bits(x);
	return (bits & 0x7f800000u) == 0x7f800000u ? x : sl_float_of((bits + 0x1000u) & ~0x1fffu);
#endif
}

#ifndef __CUDACC__
namespace sl_twin {

struct operands {
	unsigned a[4], b[2];
	float c[4];
};

template <class T> inline double half_of(unsigned word, int which) {
	T x = {(unsigned short)(word >> 16 * which)};
	return (double)sl_widen(x);
}
inline double tf32_of(unsigned word) {
	return (double)sl_float_of(word & ~0x1fffu); /* the rest of the register is not read */
}
inline const operands *given_by(const unsigned char *slots, int lane) {
	return (const operands *)(slots + lane * ::sl_fibers::SLOT);
}
/* Element (r, k) of A and (k, n) of B of what the lanes gave. */
template <class T> struct fragments {
	static double a(const unsigned char *slots, int r, int k) {
		return half_of<T>(given_by(slots, r % 8 * 4 + k % 8 / 2)->a[r / 8 + 2 * (k / 8)], k % 2);
	}
	static double b(const unsigned char *slots, int k, int n) {
		return half_of<T>(given_by(slots, n * 4 + k % 8 / 2)->b[k / 8], k % 2);
	}
};
template <> struct fragments<float> {
	static double a(const unsigned char *slots, int r, int k) {
		return tf32_of(given_by(slots, r % 8 * 4 + k % 4)->a[r / 8 + 2 * (k / 4)]);
	}
	static double b(const unsigned char *slots, int k, int n) {
		return tf32_of(given_by(slots, n * 4 + k % 4)->b[k / 4]);
	}
};

template <class T> inline void mma(int depth, float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
	operands own;
	std::memcpy(own.a, a, sizeof a);
	std::memcpy(own.b, b, sizeof b);
	std::memcpy(own.c, c, sizeof c);
	int lane = (int)::sl_fibers::lane();
	const unsigned char *slots =
		::sl_fibers::collect(::sl_fibers::MATRIX, SL_WARP_MASK, &own, sizeof own, __FILE__, __LINE__);
	for (int i = 0; i < 4; i++) {
		int row = lane / 4 + 8 * (i / 2), col = lane % 4 * 2 + i % 2;
		double sum = c[i];
		for (int k = 0; k < depth; k++)
			sum += fragments<T>::a(slots, row, k) * fragments<T>::b(slots, k, col);
		c[i] = (float)sum;
	}
}

/* Each lane below 8 N gives a row of eight; lane l gets two of each matrix. */
template <int N, class T>
inline void load(bool turned, const ::sl_fibers::shared_array<T> &from, int64_t index, unsigned (&to)[N]) {
	T row[8] = {};
	int lane = (int)::sl_fibers::lane();
	for (int i = 0; i < 8 && lane < 8 * N; i++)
		row[i] = from[index + i];
	if (lane < 8 * N && index % 8)
		::sl_fibers::fault(__FILE__, __LINE__, "ldmatrix: a row at element %lld, which is no multiple of 8",
						   (long long)index);
	const unsigned char *slots =
		::sl_fibers::collect(::sl_fibers::MATRIX, SL_WARP_MASK, row, sizeof row, __FILE__, __LINE__);
	for (int m = 0; m < N; m++) {
		unsigned short e[2];
		for (int i = 0; i < 2; i++) {
			int r = turned ? lane % 4 * 2 + i : lane / 4, c = turned ? lane / 4 : lane % 4 * 2 + i;
			std::memcpy(&e[i], slots + (8 * m + r) * ::sl_fibers::SLOT + 2 * c, 2);
		}
		to[m] = (unsigned)e[0] | (unsigned)e[1] << 16;
	}
}

} // namespace sl_twin
#endif

/* c += a b: 16 x 16 by 16 x 8 of sl_f16 or sl_bf16, 16 x 8 by 8 x 8 of floats rounded to TF32. */
template <class T> struct sl_mma;

#ifdef __CUDACC__
#define SL_MMA(T, shape)                                                                                               \
	template <> struct sl_mma<T> {                                                                                     \
		SL_DEVICE_MEMBER void add(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {                     \
			asm volatile("mma.sync.aligned." shape " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"  \
						 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                              \
						 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                          \
		}                                                                                                              \
	}
SL_MMA(sl_f16, "m16n8k16.row.col.f32.f16.f16.f32");
SL_MMA(sl_bf16, "m16n8k16.row.col.f32.bf16.bf16.f32");
SL_MMA(float, "m16n8k8.row.col.f32.tf32.tf32.f32");
#else
#define SL_MMA(T, depth)                                                                                               \
	template <> struct sl_mma<T> {                                                                                     \
		static void add(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {                               \
			sl_twin::mma<T>(depth, c, a, b);                                                                           \
		}                                                                                                              \
	}
SL_MMA(sl_f16, 16);
SL_MMA(sl_bf16, 16);
SL_MMA(float, 8);
#endif

/* Four matrices of 8 x 8 of 16 bits from shared memory: lane l gives where row l % 8 of matrix l / 8 begins, a multiple
 * of 8 elements. to[m] is what an operand's fragment holds of matrix m: as it lies, or (TURNED) of its transpose. */
template <bool TURNED, class T>
SL_DEVICE void sl_load_matrices(SL_SHARED_ARRAY(T) from, int64_t index, unsigned (&to)[4]) {
#ifdef __CUDACC__
	unsigned at = (unsigned)__cvta_generic_to_shared(from + index);
	if (TURNED)
		asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
					 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
					 : "r"(at));
	else
		asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
					 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
					 : "r"(at));
#else
	sl_twin::load<4>(TURNED, from, index, to);
#endif
}

#endif
