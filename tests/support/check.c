/* SPDX-License-Identifier: Apache-2.0 */
#include "support/check.h"

#include <setjmp.h>
#include <stdarg.h>

static sl_test_entry *entries;

void sl_test_register(sl_test_entry *entry) {
	entry->next = entries;
	entries = entry;
}

sl_context *sl_test_context(void) {
	return sl_test_context_of((sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .seed = 1});
}

sl_context *sl_test_context_of(sl_context_options options) {
	sl_context *context = NULL;
	char error[256] = "";
	options.threads = 2;
	options.error = error;
	options.error_size = sizeof error;
	if (sl_context_create(&context, &options) != SL_OK)
		sl_test_fail(__FILE__, __LINE__, "no context: %s", error);
	return context;
}

void sl_test_fill(void *data, sl_dtype dtype, int64_t count, uint64_t seed) {
	uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
	for (int64_t i = 0; i < count; i++) {
		state += 0x9E3779B97F4A7C15u;
		uint64_t z = state;
		z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
		z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
		z ^= z >> 31;
		/* 8 bits: exact in every dtype. */
		double value = (double)(int64_t)(z >> 56) / 128.0 - 1.0;
		if (dtype == SL_F64) {
			((double *)data)[i] = value;
		} else if (dtype == SL_F32) {
			((float *)data)[i] = (float)value;
		} else {
			float f = (float)value;
			uint32_t bits;
			memcpy(&bits, &f, 4);
			uint16_t half;
			if (dtype == SL_BF16)
				half = (uint16_t)(bits >> 16);
			else /* normal or zero: |value| is 0 or at least 2^-7 */
				half = value == 0 ? 0
								  : (uint16_t)(((bits >> 16) & 0x8000u) | ((((bits >> 23) & 0xffu) - 112u) << 10) |
											   ((bits >> 13) & 0x3ffu));
			((uint16_t *)data)[i] = half;
		}
	}
}

#ifdef SL_WITH_CRITERION

void sl_test_fail(const char *file, int line, const char *format, ...) {
	char text[1024];
	va_list list;
	va_start(list, format);
	vsnprintf(text, sizeof text, format, list);
	va_end(list);
	cr_assert(0, "%s:%d: %s", file, line, text);
	abort();
}

void sl_test_skip(const char *format, ...) {
	char text[1024];
	va_list list;
	va_start(list, format);
	vsnprintf(text, sizeof text, format, list);
	va_end(list);
	cr_skip("%s", text);
	abort();
}

#else

static jmp_buf escape;

void sl_test_fail(const char *file, int line, const char *format, ...) {
	va_list list;
	va_start(list, format);
	fprintf(stderr, "%s:%d: ", file, line);
	vfprintf(stderr, format, list);
	fprintf(stderr, "\n");
	va_end(list);
	longjmp(escape, 1);
}

void sl_test_skip(const char *format, ...) {
	va_list list;
	va_start(list, format);
	fprintf(stderr, "skipped: ");
	vfprintf(stderr, format, list);
	fprintf(stderr, "\n");
	va_end(list);
	longjmp(escape, 2);
}

/* 0: passed, 1: failed, 2: skipped. */
static int run_one(sl_test_entry *entry) {
	switch (setjmp(escape)) {
	case 0:
		entry->run();
		return 0;
	case 1:
		return 1;
	default:
		return 2;
	}
}

/* Usage: runner [FILTER]: runs the tests whose "suite/name" contains FILTER. */
int main(int argc, char **argv) {
	int counts[3] = {0};
	for (sl_test_entry *entry = entries; entry; entry = entry->next) {
		char name[256];
		snprintf(name, sizeof name, "%s/%s", entry->suite, entry->name);
		if (argc > 1 && !strstr(name, argv[1]))
			continue;
		int result = run_one(entry);
		counts[result]++;
		if (result == 1)
			fprintf(stderr, "FAILED %s\n", name);
	}
	printf("%d passed, %d failed, %d skipped\n", counts[0], counts[1], counts[2]);
	return counts[1] || !(counts[0] + counts[2]);
}

#endif
