/* SPDX-License-Identifier: Apache-2.0 */
/* The harness that runs kernels on the host: sound kernels pass under every order, planted faults are named. */
#include "fibers.h"
#include "planted.h"
#include "support/check.h"

#include <sys/wait.h>
#include <unistd.h>

enum { SEEDS = 20 };

static float in[256], out[256];

static void fill(void) {
	for (int i = 0; i < 256; i++) {
		in[i] = (float)(i % 7) - 2;
		out[i] = -99;
	}
	sl_fibers_reset();
}

/* Under some order the call ends in a fault with these words; it says under which. */
static void check_fault(const char *words, bool found, uint64_t seed) {
	if (!found)
		sl_test_fail(__FILE__, __LINE__, "no fault \"%s\" under seeds 0 to %d; last: %s", words, SEEDS - 1,
					 sl_fibers_fault());
	(void)seed;
}
#define FAULT(words, call)                                                                                             \
	do {                                                                                                               \
		bool found = false;                                                                                            \
		for (uint64_t seed = 0; seed < SEEDS && !found; seed++) {                                                      \
			fill();                                                                                                    \
			sl_fibers_seed(seed);                                                                                      \
			CHECK_EQ(call, 0);                                                                                         \
			found = strstr(sl_fibers_fault(), words) != NULL;                                                          \
			check_fault(words, found || seed + 1 < SEEDS, seed);                                                       \
		}                                                                                                              \
		sl_fibers_reset();                                                                                             \
	} while (0)
#define SOUND(call)                                                                                                    \
	do {                                                                                                               \
		CHECK_EQ(call, 0);                                                                                             \
		if (*sl_fibers_fault())                                                                                        \
			sl_test_fail(__FILE__, __LINE__, "%s", sl_fibers_fault());                                                 \
	} while (0)

SL_TEST(fibers, a_sound_reduction_passes_under_every_order) {
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		fill();
		sl_fibers_seed(seed);
		SOUND(planted_block_reduce(in, out, -1));
		for (int b = 0; b < 2; b++) {
			float sum = 0;
			for (int i = 0; i < 128; i++)
				sum += in[b * 128 + i];
			for (int i = 0; i < 128; i++)
				CHECK(out[b * 128 + i] == sum);
		}
	}
}

SL_TEST(fibers, a_removed_syncthreads_is_caught) {
	/* Each of the barriers, those within one warp too. Behind the last, "by" 1, all read what thread 0 wrote. */
	static const int missing[] = {0, 64, 32, 16, 8, 4, 2, 1};
	for (int i = 0; i < 8; i++)
		FAULT("shared memory part", planted_block_reduce(in, out, missing[i]));
}

SL_TEST(fibers, a_removed_syncwarp_is_caught) {
	fill();
	SOUND(planted_warp_reverse(in, out, true));
	for (int i = 0; i < 64; i++)
		CHECK(out[i] == in[i / 32 * 32 + 31 - i % 32]);
	FAULT("shared memory part", planted_warp_reverse(in, out, false));
	FAULT("shared memory part", planted_shuffle_is_no_barrier(in, out));
}

SL_TEST(fibers, divergent_barriers_are_caught) {
	FAULT("divergent barrier: thread", planted_divergent_barrier(out));
	FAULT("has left the kernel", planted_barrier_after_exit(out));
	FAULT("has left the kernel", planted_divergent_shuffle(out));
	FAULT("which leaves it out", planted_mask_without_oneself(out));
	FAULT("reads lane 20, which takes no part", planted_shuffle_from_outside(out));
}

SL_TEST(fibers, the_message_names_kernel_thread_and_line) {
	fill();
	sl_fibers_seed(1);
	CHECK_EQ(planted_barrier_after_exit(out), 0);
	CHECK(strstr(sl_fibers_fault(), "planted.cuh:") &&
		  strstr(sl_fibers_fault(), "(barrier_after_exit), block (0, 0, 0)"));
	/* What is launched after a fault does not run, as on a GPU that has had one. */
	CHECK_EQ(planted_warp_reverse(in, out, true), 0);
	CHECK(out[0] == -99);
	sl_fibers_reset();
}

SL_TEST(fibers, shared_memory_is_guarded) {
	fill();
	SOUND(planted_shared_overrun(out, 0));
	FAULT("part[32] of 32 elements", planted_shared_overrun(out, 1));
	FAULT("part[-1] of 32 elements", planted_shared_overrun(out, -1));
	FAULT("is read before it is written", planted_shared_left_over(out));
}

SL_TEST(fibers, vectors_are_aligned) {
	static _Alignas(16) float aligned[8];
	static _Alignas(16) float to[4];
	sl_fibers_reset();
	CHECK_EQ(planted_crooked_vector(aligned, to), 0);
	CHECK(strstr(sl_fibers_fault(), "a vector of 16 bytes"));
	sl_fibers_reset();
}

SL_TEST(fibers, groups_of_a_warp_run_on_their_own) {
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		fill();
		sl_fibers_seed(seed);
		SOUND(planted_group_sums(in, out));
		for (int g = 0; g < 8; g++) {
			float sum = 0;
			for (int i = 0; i < 8; i++)
				sum += in[g * 8 + i];
			for (int turn = 0; turn < g % 4; turn++)
				sum *= 8;
			for (int i = 0; i < 8; i++)
				CHECK(out[g * 8 + i] == sum);
		}
	}
}

SL_TEST(fibers, the_order_follows_the_seed) {
	int orders[4][96], differ = 0;
	for (int i = 0; i < 4; i++) {
		int next = 0;
		bool seen[96] = {false};
		sl_fibers_seed((uint64_t)(i == 3 ? 1 : i));
		SOUND(planted_arrivals(&next, orders[i]));
		CHECK_EQ(next, 96);
		for (int k = 0; k < 96; k++)
			seen[orders[i][k]] = true;
		for (int k = 0; k < 96; k++)
			CHECK(seen[k]);
	}
	for (int k = 0; k < 96; k++) {
		CHECK_EQ(orders[0][k], k); /* seed 0: as they are numbered */
		CHECK_EQ(orders[1][k], orders[3][k]);
		differ += orders[1][k] != orders[2][k];
	}
	CHECK(differ > 48);
}

SL_TEST(fibers, what_a_gpu_would_not_launch_is_refused) {
	fill();
	CHECK(planted_too_many_threads(out) != 0);
	CHECK(!*sl_fibers_fault());
}

#if defined(__SANITIZE_ADDRESS__)
SL_TEST(fibers, a_write_behind_global_memory_ends_the_process_under_asan) {
	pid_t child = fork();
	if (!child) {
		float *small = malloc(32 * sizeof *small);
		(void)!freopen("/dev/null", "w", stderr);
		planted_global_overrun(small, 0);
		planted_global_overrun(small, 1);
		_exit(0);
	}
	int status = 0;
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) != 0);
}
#endif
