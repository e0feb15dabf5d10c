/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

const char *sli_isa_name(sl_isa isa) {
	static const char *const names[] = {"scalar", "avx2", "avx512"};
	return names[isa];
}

#if defined(__x86_64__)
/* Clang 14 has no name for it. */
static bool has_f16c(void) {
	unsigned a, b, c, d;
	return __get_cpuid(1, &a, &b, &c, &d) && (c & 1u << 29);
}
#endif

bool sli_cpu_has(sl_isa isa) {
#if defined(__x86_64__)
	/* The compiler's own check asks the system whether the registers are saved, too. */
	if (isa == SL_ISA_AVX512)
		return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
			   __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
	if (isa == SL_ISA_AVX2)
		return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
#endif
	return isa == SL_ISA_SCALAR;
}

sl_isa sli_cpu_detect(const sl_host *host) {
	sl_isa best = SL_ISA_SCALAR;
	for (int isa = SL_ISA_SCALAR; isa <= SL_ISA_AVX512; isa++)
		if (sli_cpu_has((sl_isa)isa))
			best = (sl_isa)isa;
	const char *wanted = getenv("SPARSELAYER_CPU");
	if (!wanted || !*wanted)
		return best;
	char line[160];
	for (int isa = SL_ISA_SCALAR; isa <= SL_ISA_AVX512; isa++) {
		if (strcmp(wanted, sli_isa_name((sl_isa)isa)))
			continue;
		bool has = sli_cpu_has((sl_isa)isa);
		snprintf(line, sizeof line, "SPARSELAYER_CPU=%s: %s", wanted, has ? "used" : "not on this machine, ignored");
		host->log(host->user, has ? SL_LOG_INFO : SL_LOG_WARNING, line);
		return has ? (sl_isa)isa : best;
	}
	snprintf(line, sizeof line, "SPARSELAYER_CPU=%.64s is none of scalar, avx2, avx512: ignored", wanted);
	host->log(host->user, SL_LOG_WARNING, line);
	return best;
}

void sli_cpu_model(char *text, size_t size) {
	char line[256];
	FILE *file = fopen("/proc/cpuinfo", "r");
	snprintf(text, size, "unknown processor");
	while (file && fgets(line, sizeof line, file)) {
		char *colon = strchr(line, ':');
		if (strncmp(line, "model name", 10) || !colon)
			continue;
		colon[1 + strcspn(colon + 1, "\n")] = 0;
		snprintf(text, size, "%s", colon + 1 + (colon[1] == ' '));
		break;
	}
	if (file)
		fclose(file);
}
