/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU backend's table. */
#include "backend/step.h"
#include "cpu/cost.h"
#include "cpu/top.h"

#include <stdio.h>
#include <unistd.h>

static int devices(sl_device_info *infos, int capacity) {
	if (capacity > 0) {
		infos[0].device = SL_DEVICE_CPU;
		infos[0].usable = true;
		sli_cpu_model(infos[0].name, sizeof infos[0].name);
		snprintf(infos[0].detail, sizeof infos[0].detail, "%s",
				 sli_cpu_has(SL_ISA_AVX512) ? "avx512, avx2"
				 : sli_cpu_has(SL_ISA_AVX2) ? "avx2"
											: "scalar");
		infos[0].units = (int)sysconf(_SC_NPROCESSORS_ONLN);
		infos[0].memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGE_SIZE);
	}
	return 1;
}

static sl_status open_device(const sl_host *host, void **device) {
	sl_cpu *cpu = host->allocate(host->user, sizeof *cpu);
	*device = cpu;
	if (!cpu)
		return host->fail(host->user, SL_ERR_MEMORY, "no memory for the cpu backend's state");
	*cpu = (sl_cpu){.host = host, .isa = sli_cpu_detect(host)};
	cpu->costs = *sli_cost_defaults(cpu->isa);
	cpu->math = sli_cpu_choose(cpu, SL_OP_ACTIVATION, SL_F32, NULL);
	cpu->bf16 = sli_cpu_choose(cpu, SL_OP_CONVERT, SL_BF16, NULL);
	cpu->f16 = sli_cpu_choose(cpu, SL_OP_CONVERT, SL_F16, NULL);
	return SL_OK;
}

static void close_device(void *device) {
	sl_cpu *cpu = device;
	cpu->host->release(cpu->host->user, cpu, sizeof *cpu);
}

static void describe(void *device, char *text, size_t size) {
	sl_cpu *cpu = device;
	char model[96];
	sli_cpu_model(model, sizeof model);
	snprintf(text, size, "%s, %d threads, %s", sli_isa_name(cpu->isa), cpu->host->threads, model);
}

static int64_t panel_width(void *device, sl_dtype dtype, int64_t batch, bool sparse) {
	(void)device, (void)dtype;
	/* A dense chain is best as whole feature-major matrices, which is one panel. */
	if (!sparse)
		return batch > 0 ? batch : 1;
	return batch <= 1 ? 1 : batch <= 8 ? 8 : batch <= 16 ? 16 : batch <= 32 ? 32 : 64;
}

static sl_status allocate(void *device, size_t bytes, sl_memory kind, void **pointer) {
	sl_cpu *cpu = device;
	(void)kind;
	*pointer = cpu->host->allocate(cpu->host->user, bytes);
	return *pointer ? SL_OK : cpu->host->fail(cpu->host->user, SL_ERR_MEMORY, "no memory: %zu bytes", bytes);
}

static void release(void *device, void *pointer, size_t bytes, sl_memory kind) {
	sl_cpu *cpu = device;
	(void)kind;
	cpu->host->release(cpu->host->user, pointer, bytes);
}

static sl_status copy(void *device, void *to, sl_memory to_kind, const void *from, sl_memory from_kind, size_t bytes) {
	(void)device, (void)to_kind, (void)from_kind;
	if (bytes)
		memcpy(to, from, bytes);
	return SL_OK;
}

static sl_status fill(void *device, void *to, int byte, size_t bytes) {
	(void)device;
	if (bytes)
		memset(to, byte, bytes);
	return SL_OK;
}

/* Everything is done when a call returns, so an event needs no state; it must not be NULL. */
static sl_status event_create(void *device, void **event) {
	*event = device;
	return SL_OK;
}

static void event_destroy(void *device, void *event) {
	(void)device, (void)event;
}

static sl_status event_record(void *device, void *event) {
	(void)device, (void)event;
	return SL_OK;
}

static sl_status event_wait(void *device, void *event, bool on_host) {
	(void)device, (void)event, (void)on_host;
	return SL_OK;
}

static sl_status synchronize(void *device) {
	(void)device;
	return SL_OK;
}

static sl_status plan_op(void *device, const sl_op_desc *desc, sl_op_plan *plan) {
	*plan = (sl_op_plan){.desc = *desc};
	plan->desc.device = device;
	if (desc->kind == SL_OP_ADVANCE)
		return SL_OK;
	if (desc->kind == SL_OP_PATTERN)
		return ((sl_cpu *)device)
			->host->fail(((sl_cpu *)device)->host->user, SL_ERR_UNSUPPORTED, "cpu: patterns are the host's own");
	if (desc->kind == SL_OP_TOP)
		return sli_cpu_top_plan(device, plan);
	if (desc->kind >= SL_OP_CHUNK_SPMM)
		return sli_cpu_chunk_plan(device, desc, plan);
	if (desc->kind == SL_OP_SPGEMM)
		return sli_cpu_spgemm_plan(device, desc, plan);
	if (desc->kind >= SL_OP_INPUT)
		return sli_cpu_input_plan(device, desc, plan);
	return desc->kind <= SL_OP_GATHER ? sli_cpu_product_plan(device, desc, plan)
									  : sli_cpu_vector_plan(device, desc, plan);
}

static sl_status execute(void *device, const sl_op_plan *plan, const sl_op_args *args) {
	if (plan->desc.kind == SL_OP_ADVANCE) {
		sl_step_advance(args->step);
		return SL_OK;
	}
	if (plan->desc.kind == SL_OP_TOP)
		return sli_cpu_top_execute(device, plan, args);
	if (plan->desc.kind >= SL_OP_CHUNK_SPMM)
		return sli_cpu_chunk_execute(device, plan, args);
	if (plan->desc.kind == SL_OP_SPGEMM)
		return sli_cpu_spgemm_execute(device, plan, args);
	if (plan->desc.kind >= SL_OP_INPUT)
		return sli_cpu_input_execute(device, plan, args);
	return plan->desc.kind <= SL_OP_GATHER ? sli_cpu_product_execute(device, plan, args)
										   : sli_cpu_vector_execute(device, plan, args);
}

static void destroy(void *device, sl_op_plan *plan) {
	if (plan->desc.kind <= SL_OP_GATHER)
		sli_cpu_product_destroy(device, plan);
}

static sl_status supports(void *device, const sl_op_desc *desc) {
	sl_op_plan plan;
	if (desc->kind == SL_OP_SPMM || desc->kind == SL_OP_SDDMM)
		return sli_cpu_sparse_supports(device, desc);
	SL_TRY(plan_op(device, desc, &plan)); /* the other plans are next to nothing */
	destroy(device, &plan);
	return SL_OK;
}

static size_t workspace(void *device, const sl_op_plan *plan) {
	(void)device;
	return plan->workspace;
}

static int candidates(void *device, const sl_op_desc *desc, sl_candidate *out, int capacity) {
	if (desc->kind == SL_OP_SPMM || desc->kind == SL_OP_SDDMM)
		return sli_cpu_candidates(device, desc, out, capacity);
	if (desc->kind == SL_OP_TOP && !sli_cpu_top_serves(device, desc))
		return 0;
	if (capacity > 0)
		out[0] = (sl_candidate){.name = "default"};
	return 1;
}

static sl_status calibrate(void *device, double *constants) {
	return sli_cpu_calibrate(device, constants);
}

static bool adopt(void *device, const double *constants) {
	sl_cpu *cpu = device;
	for (int i = 0; i < SL_COST_ROWS * SL_COST_WIDTHS * SL_COST_TERMS; i++)
		if (!(constants[i] >= 0 && constants[i] <= 1))
			return false;
	/* Each way to run something takes time. */
	for (int row = 0; row < SL_COST_ROWS * SL_COST_WIDTHS; row++) {
		double sum = 0;
		for (int i = 0; i < SL_COST_TERMS; i++)
			sum += constants[row * SL_COST_TERMS + i];
		if (!(sum > 0))
			return false;
	}
	memcpy(&cpu->costs, constants, sizeof cpu->costs);
	return true;
}

/* The model of the costs is part of it: other kernels, other constants. */
static void machine(void *device, char *text, size_t size) {
	const sl_cpu *cpu = device;
	char model[96];
	sli_cpu_model(model, sizeof model);
	snprintf(text, size, "cpu %s, %s, costs %d", sli_isa_name(cpu->isa), model, SL_COST_EDITION);
}

extern const sl_backend sl_backend_cpu;
const sl_backend sl_backend_cpu = {
	.abi = SL_BACKEND_ABI,
	.flags = SL_BACKEND_TRAINS | SL_BACKEND_HOST_MEMORY | SL_BACKEND_INPUTS,
	.name = "cpu",
	.device = SL_DEVICE_CPU,
	.devices = devices,
	.open = open_device,
	.close = close_device,
	.describe = describe,
	.panel_width = panel_width,
	.allocate = allocate,
	.release = release,
	.copy = copy,
	.fill = fill,
	.event_create = event_create,
	.event_destroy = event_destroy,
	.event_record = event_record,
	.event_wait = event_wait,
	.synchronize = synchronize,
	.supports = supports,
	.workspace = workspace,
	.plan = plan_op,
	.execute = execute,
	.destroy = destroy,
	.candidates = candidates,
	.constants = SL_COST_ROWS * SL_COST_WIDTHS * SL_COST_TERMS,
	.calibrate = calibrate,
	.adopt = adopt,
	.machine = machine,
};
