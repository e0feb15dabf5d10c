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

enum { INPUTS_MAX = 6 };

/* One kernel: the attributes of its node. `option`: of a forward, whether to keep what backward wants; of a backward,
 * whether dX is wanted. */
typedef struct kernel {
	int64_t number, option;
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

static int type_of(sl_dtype dtype) {
	return dtype == SL_F64 ? TF_DOUBLE : dtype == SL_BF16 ? TF_BFLOAT16 : dtype == SL_F16 ? TF_HALF : TF_FLOAT;
}

/* The kernels are registered for the types a function may have; this one has one of them. */
static void check_types(call *c, int x, int values) {
	if (fine(c) && (tf.TensorType(c->inputs[x]) != type_of(c->shape.dtype) ||
					tf.TensorType(c->inputs[values]) != type_of(c->shape.value_dtype)))
		fail(c, TF_INVALID_ARGUMENT, "sparselayer: the inputs have another dtype than the layer");
}

static void *output(call *c, int index, sl_dtype dtype, int64_t rows, int64_t cols, int dimensions,
					TF_Tensor **tensor) {
	int64_t dims[2] = {rows, cols};
	if (!fine(c))
		return NULL;
	*tensor = tf.AllocateOutput(c->context, index, type_of(dtype), dims, dimensions,
								(size_t)(dimensions == 2 ? rows * cols : rows) * sl_dtype_size(dtype), c->status);
	return fine(c) ? tf.TensorData(*tensor) : NULL;
}

static void release(TF_Tensor **results, int count) {
	for (int i = 0; i < count; i++)
		if (results[i])
			tf.DeleteTensor(results[i]);
}

static const void *data(const call *c, int input) {
	return tf.TensorElementCount(c->inputs[input]) ? tf.TensorData(c->inputs[input]) : NULL;
}

static void forward(void *state, TF_OpKernelContext *context) {
	const kernel *k = state;
	call c;
	TF_Tensor *results[2] = {0};
	int64_t bytes = 0;
	sl_status status = SL_OK;
	begin(&c, context, k->number, 3);
	check_types(&c, 0, 1);
	check_matrix(&c, 0, "x", -1, c.shape.in_features);
	check_count(&c, 1, "values", c.shape.nnz);
	check_count(&c, 2, "bias", c.shape.bias ? c.shape.out_features : 0);
	if (fine(&c)) {
		int64_t batch = tf.Dim(c.inputs[0], 0);
		if (k->option)
			status = slb_kept_bytes(k->number, batch, &bytes);
		void *out = output(&c, 0, c.shape.dtype, batch, c.shape.out_features, 2, &results[0]);
		void *keep = output(&c, 1, c.shape.dtype, bytes / (int64_t)sl_dtype_size(c.shape.dtype), 0, 1, &results[1]);
		if (fine(&c) && status == SL_OK)
			status = slb_forward(k->number, batch, data(&c, 0), 0, data(&c, 1), c.shape.bias ? data(&c, 2) : NULL, out,
								 0, bytes ? keep : NULL);
	}
	release(results, 2);
	end(&c, status);
}

static void backward(void *state, TF_OpKernelContext *context) {
	const kernel *k = state;
	call c;
	TF_Tensor *results[3] = {0};
	sl_status status = SL_OK;
	begin(&c, context, k->number, 5);
	check_types(&c, 0, 4);
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
		void *dx = output(&c, 0, c.shape.dtype, k->option ? batch : 0, c.shape.in_features, 2, &results[0]);
		void *dvalues = output(&c, 1, c.shape.value_dtype, count, 0, 1, &results[1]);
		void *dbias = output(&c, 2, c.shape.value_dtype, c.shape.bias ? c.shape.out_features : 0, 0, 1, &results[2]);
		if (fine(&c) && status == SL_OK)
			status = slb_backward(k->number, batch, data(&c, 0), 0, data(&c, 1), kept, data(&c, 3), 0, data(&c, 4),
								  k->option ? dx : NULL, dvalues, count, c.shape.bias ? dbias : NULL);
	}
	release(results, 3);
	end(&c, status);
}

/* A tf.SparseTensor: inputs 0 to 2 are its indices [entries, 2], values and dense_shape. */
static slb_entries take_entries(call *c) {
	slb_entries x = {.index_dtype = SL_I64, .stride = 2};
	if (!fine(c))
		return x;
	const TF_Tensor *indices = c->inputs[0];
	if (tf.TensorType(indices) != TF_INT64 || tf.NumDims(indices) != 2 || tf.Dim(indices, 1) != 2 ||
		tf.TensorType(c->inputs[2]) != TF_INT64 || tf.TensorElementCount(c->inputs[2]) != 2 ||
		tf.TensorElementCount(c->inputs[1]) != tf.Dim(indices, 0)) {
		fail(c, TF_INVALID_ARGUMENT, "sparselayer: x is no sparse matrix");
		return x;
	}
	const int64_t *shape = tf.TensorData(c->inputs[2]);
	if (shape[1] != c->shape.in_features) {
		char text[128];
		snprintf(text, sizeof text, "sparselayer: x has %lld columns; [batch, %lld] is needed", (long long)shape[1],
				 (long long)c->shape.in_features);
		fail(c, TF_INVALID_ARGUMENT, text);
	}
	x.batch = shape[0];
	x.count = tf.Dim(indices, 0);
	x.rows = data(c, 0);
	x.columns = x.rows ? (const int64_t *)x.rows + 1 : NULL;
	x.values = data(c, 1);
	return x;
}

static void forward_sparse(void *state, TF_OpKernelContext *context) {
	const kernel *k = state;
	call c;
	TF_Tensor *result = NULL;
	sl_status status = SL_OK;
	begin(&c, context, k->number, 5);
	check_types(&c, 1, 3);
	slb_entries x = take_entries(&c);
	check_count(&c, 3, "values", c.shape.nnz);
	check_count(&c, 4, "bias", c.shape.bias ? c.shape.out_features : 0);
	void *y = output(&c, 0, c.shape.dtype, x.batch, c.shape.out_features, 2, &result);
	if (fine(&c))
		status = slb_forward_sparse(k->number, &x, data(&c, 3), c.shape.bias ? data(&c, 4) : NULL, y);
	release(&result, 1);
	end(&c, status);
}

static void backward_sparse(void *state, TF_OpKernelContext *context) {
	const kernel *k = state;
	call c;
	TF_Tensor *results[2] = {0};
	sl_status status = SL_OK;
	begin(&c, context, k->number, 6);
	check_types(&c, 1, 5);
	slb_entries x = take_entries(&c);
	check_matrix(&c, 4, "dy", x.batch, c.shape.out_features);
	check_count(&c, 5, "values", c.shape.nnz);
	if (fine(&c)) {
		int64_t count = tf.TensorElementCount(c.inputs[5]);
		void *dvalues = output(&c, 0, c.shape.value_dtype, count, 0, 1, &results[0]);
		void *dbias = output(&c, 1, c.shape.value_dtype, c.shape.bias ? c.shape.out_features : 0, 0, 1, &results[1]);
		if (fine(&c))
			status = slb_backward_sparse(k->number, &x, data(&c, 3), data(&c, 4), dvalues, count,
										 c.shape.bias ? dbias : NULL);
	}
	release(results, 2);
	end(&c, status);
}

static void *create(TF_OpKernelConstruction *construction) {
	TF_Status *status = tf.NewStatus();
	kernel *k = calloc(1, sizeof *k);
	if (!k)
		tf.SetStatus(status, TF_RESOURCE_EXHAUSTED, "no memory for a kernel");
	else
		tf.OpKernelConstruction_GetAttrInt64(construction, "number", &k->number, status);
	if (tf.GetCode(status) == TF_OK && k)
		tf.OpKernelConstruction_GetAttrInt64(construction, "option", &k->option, status);
	if (tf.GetCode(status) != TF_OK)
		tf.OpKernelConstruction_Failure(construction, status);
	tf.DeleteStatus(status);
	return k;
}

/* Shapes are set in Python, which knows the layer. */
static void any_shape(TF_ShapeInferenceContext *context, TF_Status *status) {
	tf.ShapeInferenceContextSetUnknownShape(context, status);
}

/* T: of x and y; V: of the parameters, which are float beside 16 bits. */
static const struct op {
	const char *name;
	const char *inputs[INPUTS_MAX + 1], *outputs[4];
	void (*compute)(void *, TF_OpKernelContext *);
	bool halves;
} ops[] = {
	{"SparselayerForward", {"x: T", "values: V", "bias: V"}, {"y: T", "kept: T"}, forward, true},
	{"SparselayerBackward",
	 {"x: T", "y: T", "kept: T", "dy: T", "values: V"},
	 {"dx: T", "dvalues: V", "dbias: V"},
	 backward,
	 true},
	{"SparselayerForwardSparse",
	 {"indices: int64", "entries: T", "shape: int64", "values: V", "bias: V"},
	 {"y: T"},
	 forward_sparse,
	 false},
	{"SparselayerBackwardSparse",
	 {"indices: int64", "entries: T", "shape: int64", "y: T", "dy: T", "values: V"},
	 {"dvalues: V", "dbias: V"},
	 backward_sparse,
	 false},
};

static void register_op(const struct op *op, TF_Status *status) {
	static const int types[] = {TF_FLOAT, TF_DOUBLE, TF_HALF, TF_BFLOAT16};
	TF_OpDefinitionBuilder *builder = tf.NewOpDefinitionBuilder(op->name);
	for (const char *const *input = op->inputs; *input; input++)
		tf.OpDefinitionBuilderAddInput(builder, *input);
	for (const char *const *name = op->outputs; *name; name++)
		tf.OpDefinitionBuilderAddOutput(builder, *name);
	tf.OpDefinitionBuilderAddAttr(builder, op->halves ? "T: {float, double, half, bfloat16}" : "T: {float, double}");
	tf.OpDefinitionBuilderAddAttr(builder, "V: {float, double}");
	tf.OpDefinitionBuilderAddAttr(builder, "number: int");
	tf.OpDefinitionBuilderAddAttr(builder, "option: int");
	tf.OpDefinitionBuilderSetShapeInferenceFunction(builder, any_shape);
	tf.RegisterOpDefinition(builder, status);
	for (int i = 0; i < (op->halves ? 4 : 2) && tf.GetCode(status) == TF_OK; i++) {
		TF_KernelBuilder *kernels = tf.NewKernelBuilder(op->name, "CPU", create, op->compute, free);
		tf.KernelBuilder_TypeConstraint(kernels, "T", types[i], status);
		if (tf.GetCode(status) == TF_OK)
			tf.RegisterKernelBuilder(op->name, kernels, status);
	}
}

__attribute__((constructor)) static void register_all(void) {
	if (!find_functions())
		return;
	TF_Status *status = tf.NewStatus();
	for (size_t i = 0; i < sizeof ops / sizeof *ops && tf.GetCode(status) == TF_OK; i++)
		register_op(&ops[i], status);
	if (tf.GetCode(status) != TF_OK)
		snprintf(problem, sizeof problem, "%s", tf.Message(status));
	tf.DeleteStatus(status);
}
