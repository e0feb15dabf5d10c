/* SPDX-License-Identifier: Apache-2.0 */
/* sl_function as two ops of TensorFlow. Loading this file with tf.load_op_library() registers them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "bridge.h"
#include "tf_api.h"

static tf_api tf;
static char problem[256];

/* Why nothing was registered; "" where all went well. */
SL_API const char *sparselayer_tf_problem(void) {
	return problem;
}

static bool find_functions(void) {
	static const char *const names[] = {"libtensorflow_framework.so.2", "libtensorflow_framework.so",
										"libtensorflow_cc.so.2"};
	void *handle = NULL;
	for (size_t i = 0; i < sizeof names / sizeof *names && !handle; i++)
		handle = dlopen(names[i], RTLD_NOW | RTLD_NOLOAD);
	if (!handle)
		handle = RTLD_DEFAULT;
#define TF_FIND(result, name, arguments)                                                                               \
	if (!(*(void **)&tf.name = dlsym(handle, "TF_" #name))) {                                                          \
		snprintf(problem, sizeof problem, "this TensorFlow has no TF_" #name);                                         \
		return false;                                                                                                  \
	}
	TF_FUNCTIONS(TF_FIND)
#undef TF_FIND
	return true;
}

enum { INPUTS_MAX = 5 };

/* One kernel: the attributes of its node. */
typedef struct kernel {
	int64_t number, wants_x, keep;
} kernel;

/* One call: its inputs, and whether something failed. */
typedef struct call {
	TF_OpKernelContext *context;
	TF_Status *status;
	TF_Tensor *inputs[INPUTS_MAX];
	int count;
	slb_shape shape;
} call;

static void fail(call *c, int code, const char *text) {
	if (tf.GetCode(c->status) == TF_OK)
		tf.SetStatus(c->status, code, text);
}

static bool fine(const call *c) {
	return tf.GetCode(c->status) == TF_OK;
}

static void begin(call *c, TF_OpKernelContext *context, int64_t number, int count) {
	*c = (call){.context = context, .status = tf.NewStatus(), .count = count};
	for (int i = 0; i < count && fine(c); i++)
		tf.GetInput(context, i, &c->inputs[i], c->status);
	if (fine(c) && slb_function_shape(number, &c->shape) != SL_OK)
		fail(c, TF_INVALID_ARGUMENT, slb_message());
}

static void end(call *c, sl_status status) {
	if (status != SL_OK)
		fail(c, status == SL_ERR_MEMORY || status == SL_ERR_BUDGET ? TF_RESOURCE_EXHAUSTED : TF_INVALID_ARGUMENT,
			 slb_message());
	if (!fine(c))
		tf.OpKernelContext_Failure(c->context, c->status);
	for (int i = 0; i < c->count; i++)
		if (c->inputs[i])
			tf.DeleteTensor(c->inputs[i]);
	tf.DeleteStatus(c->status);
}

static void check_matrix(call *c, int input, const char *name, int64_t batch, int64_t features) {
	const TF_Tensor *t = c->inputs[input];
	char text[192];
	if (!fine(c) || (tf.NumDims(t) == 2 && tf.Dim(t, 1) == features && (batch < 0 || tf.Dim(t, 0) == batch)))
		return;
	snprintf(text, sizeof text, "sparselayer: %s has %d dimensions, the last of size %lld; [batch, %lld] is needed",
			 name, tf.NumDims(t), (long long)(tf.NumDims(t) ? tf.Dim(t, tf.NumDims(t) - 1) : 0), (long long)features);
	fail(c, TF_INVALID_ARGUMENT, text);
}

static void check_count(call *c, int input, const char *name, int64_t least) {
	char text[192];
	if (!fine(c) || tf.TensorElementCount(c->inputs[input]) >= least)
		return;
	snprintf(text, sizeof text, "sparselayer: %s has %lld elements; %lld are needed", name,
			 (long long)tf.TensorElementCount(c->inputs[input]), (long long)least);
	fail(c, TF_INVALID_ARGUMENT, text);
}

/* The kernels are registered for the types a function has; this one may have the other. */
static void check_type(call *c) {
	int type = c->shape.dtype == SL_F64 ? TF_DOUBLE : TF_FLOAT;
	if (fine(c) && tf.TensorType(c->inputs[0]) != type)
		fail(c, TF_INVALID_ARGUMENT, "sparselayer: the inputs have another dtype than the layer");
}

static void *output(call *c, int index, int64_t rows, int64_t cols, int dimensions, TF_Tensor **tensor) {
	int64_t dims[2] = {rows, cols};
	size_t size = sl_dtype_size(c->shape.dtype);
	if (!fine(c))
		return NULL;
	*tensor = tf.AllocateOutput(c->context, index, tf.TensorType(c->inputs[0]), dims, dimensions,
								(size_t)(dimensions == 2 ? rows * cols : rows) * size, c->status);
	return fine(c) ? tf.TensorData(*tensor) : NULL;
}

static const void *data(const call *c, int input) {
	return tf.TensorElementCount(c->inputs[input]) ? tf.TensorData(c->inputs[input]) : NULL;
}

static void forward(void *state, TF_OpKernelContext *context) {
	const kernel *k = state;
	call c;
	TF_Tensor *y = NULL, *kept = NULL;
	int64_t bytes = 0;
	sl_status status = SL_OK;
	begin(&c, context, k->number, 3);
	check_type(&c);
	check_matrix(&c, 0, "x", -1, c.shape.in_features);
	check_count(&c, 1, "values", c.shape.nnz);
	check_count(&c, 2, "bias", c.shape.bias ? c.shape.out_features : 0);
	if (fine(&c)) {
		int64_t batch = tf.Dim(c.inputs[0], 0);
		if (k->keep)
			status = slb_kept_bytes(k->number, batch, &bytes);
		void *out = output(&c, 0, batch, c.shape.out_features, 2, &y);
		void *keep = output(&c, 1, bytes / (int64_t)sl_dtype_size(c.shape.dtype), 0, 1, &kept);
		if (fine(&c) && status == SL_OK)
			status = slb_forward(k->number, batch, data(&c, 0), 0, data(&c, 1), c.shape.bias ? data(&c, 2) : NULL, out,
								 0, bytes ? keep : NULL);
	}
	if (kept)
		tf.DeleteTensor(kept);
	if (y)
		tf.DeleteTensor(y);
	end(&c, status);
}

static void backward(void *state, TF_OpKernelContext *context) {
	const kernel *k = state;
	call c;
	TF_Tensor *results[3] = {0};
	sl_status status = SL_OK;
	begin(&c, context, k->number, 5);
	check_type(&c);
	check_matrix(&c, 3, "dy", -1, c.shape.out_features);
	int64_t batch = fine(&c) ? tf.Dim(c.inputs[3], 0) : 0, bytes = 0;
	const void *kept = fine(&c) ? data(&c, 2) : NULL;
	check_matrix(&c, 0, "x", batch, c.shape.in_features);
	check_count(&c, 4, "values", c.shape.nnz);
	if (fine(&c) && kept)
		status = slb_kept_bytes(k->number, batch, &bytes);
	check_count(&c, 2, "what the forward kept", bytes / (int64_t)sl_dtype_size(c.shape.dtype));
	if (fine(&c)) {
		int64_t count = tf.TensorElementCount(c.inputs[4]);
		void *dx = output(&c, 0, k->wants_x ? batch : 0, c.shape.in_features, 2, &results[0]);
		void *dvalues = output(&c, 1, count, 0, 1, &results[1]);
		void *dbias = output(&c, 2, c.shape.bias ? c.shape.out_features : 0, 0, 1, &results[2]);
		if (fine(&c) && status == SL_OK)
			status = slb_backward(k->number, batch, data(&c, 0), 0, data(&c, 1), kept, data(&c, 3), 0, data(&c, 4),
								  k->wants_x ? dx : NULL, dvalues, count, c.shape.bias ? dbias : NULL);
	}
	for (int i = 0; i < 3; i++)
		if (results[i])
			tf.DeleteTensor(results[i]);
	end(&c, status);
}

static void *create(TF_OpKernelConstruction *construction, bool is_backward) {
	TF_Status *status = tf.NewStatus();
	kernel *k = calloc(1, sizeof *k);
	if (!k)
		tf.SetStatus(status, TF_RESOURCE_EXHAUSTED, "no memory for a kernel");
	else
		tf.OpKernelConstruction_GetAttrInt64(construction, "number", &k->number, status);
	if (tf.GetCode(status) == TF_OK && k)
		tf.OpKernelConstruction_GetAttrInt64(construction, is_backward ? "wants_x" : "keep",
											 is_backward ? &k->wants_x : &k->keep, status);
	if (tf.GetCode(status) != TF_OK)
		tf.OpKernelConstruction_Failure(construction, status);
	tf.DeleteStatus(status);
	return k;
}

static void *create_forward(TF_OpKernelConstruction *construction) {
	return create(construction, false);
}

static void *create_backward(TF_OpKernelConstruction *construction) {
	return create(construction, true);
}

/* Shapes are set in Python, which knows the layer. */
static void any_shape(TF_ShapeInferenceContext *context, TF_Status *status) {
	tf.ShapeInferenceContextSetUnknownShape(context, status);
}

static void register_op(const char *name, const char *const *inputs, const char *const *outputs,
						const char *const *attributes, TF_Status *status) {
	TF_OpDefinitionBuilder *builder = tf.NewOpDefinitionBuilder(name);
	for (; *inputs; inputs++)
		tf.OpDefinitionBuilderAddInput(builder, *inputs);
	for (; *outputs; outputs++)
		tf.OpDefinitionBuilderAddOutput(builder, *outputs);
	for (; *attributes; attributes++)
		tf.OpDefinitionBuilderAddAttr(builder, *attributes);
	tf.OpDefinitionBuilderSetShapeInferenceFunction(builder, any_shape);
	tf.RegisterOpDefinition(builder, status);
}

static void register_kernel(const char *op, int type, void *(*make)(TF_OpKernelConstruction *),
							void (*compute)(void *, TF_OpKernelContext *), TF_Status *status) {
	TF_KernelBuilder *builder = tf.NewKernelBuilder(op, "CPU", make, compute, free);
	tf.KernelBuilder_TypeConstraint(builder, "T", type, status);
	if (tf.GetCode(status) == TF_OK)
		tf.RegisterKernelBuilder(op, builder, status);
}

__attribute__((constructor)) static void register_all(void) {
	static const char *const forward_in[] = {"x: T", "values: T", "bias: T", NULL};
	static const char *const forward_out[] = {"y: T", "kept: T", NULL};
	static const char *const backward_in[] = {"x: T", "y: T", "kept: T", "dy: T", "values: T", NULL};
	static const char *const backward_out[] = {"dx: T", "dvalues: T", "dbias: T", NULL};
	static const char *const forward_attr[] = {"T: {float, double}", "number: int", "keep: int", NULL};
	static const char *const backward_attr[] = {"T: {float, double}", "number: int", "wants_x: int", NULL};
	if (!find_functions())
		return;
	TF_Status *status = tf.NewStatus();
	register_op("SparselayerForward", forward_in, forward_out, forward_attr, status);
	if (tf.GetCode(status) == TF_OK)
		register_op("SparselayerBackward", backward_in, backward_out, backward_attr, status);
	for (int type = TF_FLOAT; type <= TF_DOUBLE && tf.GetCode(status) == TF_OK; type++) {
		register_kernel("SparselayerForward", type, create_forward, forward, status);
		if (tf.GetCode(status) == TF_OK)
			register_kernel("SparselayerBackward", type, create_backward, backward, status);
	}
	if (tf.GetCode(status) != TF_OK)
		snprintf(problem, sizeof problem, "%s", tf.Message(status));
	tf.DeleteStatus(status);
}
