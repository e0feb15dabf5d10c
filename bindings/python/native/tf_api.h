/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of TensorFlow's C interface for kernels that is used here (tensorflow/c/kernels.h, ops.h, tf_tensor.h,
 * tf_status.h), found by name in the TensorFlow that is loaded. So the wheel is built without TensorFlow and
 * serves every version that has these functions: it is a C interface, which C++ custom ops are not.
 */
#ifndef SL_PYTHON_TF_API_H
#define SL_PYTHON_TF_API_H

#include <stddef.h>
#include <stdint.h>

typedef struct TF_Status TF_Status;
typedef struct TF_Tensor TF_Tensor;
typedef struct TF_OpDefinitionBuilder TF_OpDefinitionBuilder;
typedef struct TF_ShapeInferenceContext TF_ShapeInferenceContext;
typedef struct TF_KernelBuilder TF_KernelBuilder;
typedef struct TF_OpKernelConstruction TF_OpKernelConstruction;
typedef struct TF_OpKernelContext TF_OpKernelContext;
enum { TF_FLOAT = 1, TF_DOUBLE = 2, TF_INT64 = 9, TF_BFLOAT16 = 14, TF_HALF = 19 };
enum { TF_OK = 0, TF_INVALID_ARGUMENT = 3, TF_RESOURCE_EXHAUSTED = 8, TF_INTERNAL = 13 };

/* result, name, arguments */
#define TF_FUNCTIONS(X)                                                                                                \
	X(TF_Status *, NewStatus, (void))                                                                                  \
	X(void, DeleteStatus, (TF_Status *))                                                                               \
	X(void, SetStatus, (TF_Status *, int code, const char *message))                                                   \
	X(int, GetCode, (const TF_Status *))                                                                               \
	X(const char *, Message, (const TF_Status *))                                                                      \
	X(TF_OpDefinitionBuilder *, NewOpDefinitionBuilder, (const char *name))                                            \
	X(void, OpDefinitionBuilderAddAttr, (TF_OpDefinitionBuilder *, const char *))                                      \
	X(void, OpDefinitionBuilderAddInput, (TF_OpDefinitionBuilder *, const char *))                                     \
	X(void, OpDefinitionBuilderAddOutput, (TF_OpDefinitionBuilder *, const char *))                                    \
	X(void, OpDefinitionBuilderSetShapeInferenceFunction,                                                              \
	  (TF_OpDefinitionBuilder *, void (*)(TF_ShapeInferenceContext *, TF_Status *)))                                   \
	X(void, RegisterOpDefinition, (TF_OpDefinitionBuilder *, TF_Status *))                                             \
	X(void, ShapeInferenceContextSetUnknownShape, (TF_ShapeInferenceContext *, TF_Status *))                           \
	X(TF_KernelBuilder *, NewKernelBuilder,                                                                            \
	  (const char *op, const char *device, void *(*create)(TF_OpKernelConstruction *),                                 \
	   void (*compute)(void *, TF_OpKernelContext *), void (*destroy)(void *)))                                        \
	X(void, KernelBuilder_TypeConstraint, (TF_KernelBuilder *, const char *attribute, int type, TF_Status *))          \
	X(void, RegisterKernelBuilder, (const char *name, TF_KernelBuilder *, TF_Status *))                                \
	X(void, OpKernelConstruction_GetAttrInt64,                                                                         \
	  (TF_OpKernelConstruction *, const char *name, int64_t *value, TF_Status *))                                      \
	X(void, OpKernelConstruction_Failure, (TF_OpKernelConstruction *, TF_Status *))                                    \
	X(void, OpKernelContext_Failure, (TF_OpKernelContext *, TF_Status *))                                              \
	X(void, GetInput, (TF_OpKernelContext *, int index, TF_Tensor **, TF_Status *))                                    \
	X(TF_Tensor *, AllocateOutput,                                                                                     \
	  (TF_OpKernelContext *, int index, int type, const int64_t *dims, int count, size_t bytes, TF_Status *))          \
	X(void *, TensorData, (const TF_Tensor *))                                                                         \
	X(int, TensorType, (const TF_Tensor *))                                                                            \
	X(int, NumDims, (const TF_Tensor *))                                                                               \
	X(int64_t, Dim, (const TF_Tensor *, int))                                                                          \
	X(int64_t, TensorElementCount, (const TF_Tensor *))                                                                \
	X(void, DeleteTensor, (TF_Tensor *))

typedef struct tf_api {
#define TF_POINTER(result, name, arguments) result(*name) arguments;
	TF_FUNCTIONS(TF_POINTER)
#undef TF_POINTER
} tf_api;

#endif
