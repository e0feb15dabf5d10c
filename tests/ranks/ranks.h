/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that are run on several ranks by tests/ranks/run.py: checks whose failure ends the whole job. */
#ifndef SL_TESTS_RANKS_H
#define SL_TESTS_RANKS_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sparselayer/sparselayer.h>

extern sl_context *context;
extern sl_comm *comm;
extern int rank, size;

#define CHECK(condition)                                                                                               \
	do {                                                                                                               \
		if (!(condition)) {                                                                                            \
			fprintf(stderr, "%s:%d: rank %d of %d: %s\n", __FILE__, __LINE__, rank, size, #condition);                 \
			sl_comm_abort(comm, 1);                                                                                    \
		}                                                                                                              \
	} while (0)
#define OK(call)                                                                                                       \
	do {                                                                                                               \
		sl_status ok_s_ = (call);                                                                                      \
		if (ok_s_ != SL_OK) {                                                                                          \
			fprintf(stderr, "%s:%d: rank %d of %d: %s: %s: %s\n", __FILE__, __LINE__, rank, size, #call,               \
					sl_status_name(ok_s_), sl_context_message(context));                                               \
			sl_comm_abort(comm, 1);                                                                                    \
		}                                                                                                              \
	} while (0)

/* In [-1, 1), the same for a seed and index everywhere. */
static inline double signed_value(uint64_t seed, uint64_t index) {
	uint64_t z = (seed + 1) * 0x9E3779B97F4A7C15u + index * 0xD1B54A32D192ED03u;
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	z ^= z >> 31;
	return (double)(z >> 11) / 4503599627370496.0 - 1;
}

/* Arguments of a test, name=value. */
void take_arguments(int argc, char **argv);
const char *given(const char *name);
int64_t number(const char *name, int64_t fallback);

void test_collectives(int argc, char **argv);
void test_share(int argc, char **argv);
void test_text(int argc, char **argv);
void test_train(int argc, char **argv);
void test_divided(int argc, char **argv);

#endif
