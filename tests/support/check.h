/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests are plain functions. SL_TEST registers one; compiled with SL_WITH_CRITERION the same file
 * becomes a Criterion suite, without it a table that tests/support/plain_main.c runs in one process
 * (for sanitizers, valgrind and machines without Criterion).
 */
#ifndef SL_TESTS_CHECK_H
#define SL_TESTS_CHECK_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sparselayer/sparselayer.h>

typedef struct sl_test_entry {
	const char *suite, *name;
	void (*run)(void);
	struct sl_test_entry *next;
} sl_test_entry;
void sl_test_register(sl_test_entry *entry);
/* Fails the running test and does not return. */
void sl_test_fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4), noreturn));
/* Skips the running test, saying why. Does not return. */
void sl_test_skip(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#ifdef SL_WITH_CRITERION
#include <criterion/criterion.h>
#define SL_TEST(suite_, name_)                                                                                         \
	static void suite_##_##name_(void);                                                                                \
	Test(suite_, name_) {                                                                                              \
		suite_##_##name_();                                                                                            \
	}                                                                                                                  \
	static void suite_##_##name_(void)
#else
#define SL_TEST(suite_, name_)                                                                                         \
	static void suite_##_##name_(void);                                                                                \
	__attribute__((constructor)) static void register_##suite_##_##name_(void) {                                       \
		static sl_test_entry entry = {#suite_, #name_, suite_##_##name_, NULL};                                        \
		sl_test_register(&entry);                                                                                      \
	}                                                                                                                  \
	static void suite_##_##name_(void)
#endif

#define CHECK(condition)                                                                                               \
	do {                                                                                                               \
		if (!(condition))                                                                                              \
			sl_test_fail(__FILE__, __LINE__, "%s", #condition);                                                        \
	} while (0)
#define CHECK_EQ(a, b)                                                                                                 \
	do {                                                                                                               \
		long long check_a_ = (long long)(a), check_b_ = (long long)(b);                                                \
		if (check_a_ != check_b_)                                                                                      \
			sl_test_fail(__FILE__, __LINE__, "%s is %lld, not %lld", #a, check_a_, check_b_);                          \
	} while (0)
/* |a - b| <= bound; NaN fails. */
#define CHECK_NEAR(a, b, bound)                                                                                        \
	do {                                                                                                               \
		double check_a_ = (double)(a), check_b_ = (double)(b), check_t_ = (double)(bound);                             \
		if (!(fabs(check_a_ - check_b_) <= check_t_))                                                                  \
			sl_test_fail(__FILE__, __LINE__, "%s is %.17g, not %.17g within %.3g", #a, check_a_, check_b_, check_t_);  \
	} while (0)
#define CHECK_OK(context, call)                                                                                        \
	do {                                                                                                               \
		sl_status check_s_ = (call);                                                                                   \
		if (check_s_ != SL_OK)                                                                                         \
			sl_test_fail(__FILE__, __LINE__, "%s: %s: %s", #call, sl_status_name(check_s_),                            \
						 (context) ? sl_context_message(context) : "");                                                \
	} while (0)
/* The call must fail with this status, and its message contain `text`. */
#define CHECK_STATUS(context, call, status, text)                                                                      \
	do {                                                                                                               \
		sl_status check_s_ = (call);                                                                                   \
		if (check_s_ != (status))                                                                                      \
			sl_test_fail(__FILE__, __LINE__, "%s gave %s, not %s", #call, sl_status_name(check_s_), #status);          \
		if (!strstr(sl_context_message(context), text))                                                                \
			sl_test_fail(__FILE__, __LINE__, "message \"%s\" lacks \"%s\"", sl_context_message(context), text);        \
	} while (0)

/* A CPU context with defaults and a fixed seed, failing the test if there is none. */
sl_context *sl_test_context(void);
/* With other options; two threads. Fails the test where there is none. */
sl_context *sl_test_context_of(sl_context_options options);
/* Signed random floats in [-1, 1), the same for a seed everywhere. */
void sl_test_fill(void *data, sl_dtype dtype, int64_t count, uint64_t seed);

#endif
