// SPDX-License-Identifier: Apache-2.0
// XLA custom calls on the CPU: sl_function under XLA's typed FFI. Compiled against the header that jaxlib ships; the
// table of XLA's functions is handed in with each call, so nothing of XLA is linked.
#include <cstdint>
#include <string>
#include <utility>

#include "bridge.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

ffi::Error Fail(const std::string &what) {
	return ffi::Error(ffi::ErrorCode::kInvalidArgument, "sparselayer: " + what);
}

ffi::Error Status(sl_status status) {
	return status == SL_OK ? ffi::Error::Success() : Fail(slb_message());
}

std::string Text(ffi::AnyBuffer::Dimensions dims) {
	std::string text = "(";
	for (int64_t d : dims)
		text += std::to_string(d) + ", ";
	return text + ")";
}

// A [batch, features] argument of the function's dtype.
ffi::Error CheckMatrix(const ffi::AnyBuffer &m, const char *name, int64_t batch, int64_t features,
					   ffi::DataType dtype) {
	auto dims = m.dimensions();
	if (dims.size() != 2 || dims[1] != features || (batch >= 0 && dims[0] != batch))
		return Fail(std::string(name) + " has shape " + Text(dims) + "; (batch, " + std::to_string(features) +
					") is needed");
	if (m.element_type() != dtype)
		return Fail(std::string(name) + " has another dtype than the function");
	return ffi::Error::Success();
}

ffi::Error CheckVector(const ffi::AnyBuffer &v, const char *name, int64_t least, ffi::DataType dtype) {
	if (static_cast<int64_t>(v.element_count()) < least)
		return Fail(std::string(name) + " has " + std::to_string(v.element_count()) + " elements; " +
					std::to_string(least) + " are needed");
	if (v.element_type() != dtype)
		return Fail(std::string(name) + " has another dtype than the function");
	return ffi::Error::Success();
}

ffi::DataType TypeOf(sl_dtype dtype) {
	switch (dtype) {
	case SL_F64:
		return ffi::DataType::F64;
	case SL_BF16:
		return ffi::DataType::BF16;
	case SL_F16:
		return ffi::DataType::F16;
	default:
		return ffi::DataType::F32;
	}
}

#define TRY(call)                                                                                                      \
	if (ffi::Error error_ = (call); error_.failure())                                                                  \
	return error_

// Zero-sized results are those that are not wanted.
void *Wanted(ffi::Result<ffi::AnyBuffer> &result) {
	return result->element_count() ? result->untyped_data() : nullptr;
}

ffi::Error Forward(ffi::AnyBuffer x, ffi::AnyBuffer values, ffi::AnyBuffer bias, ffi::Result<ffi::AnyBuffer> y,
				   ffi::Result<ffi::AnyBuffer> kept, int64_t number) {
	slb_shape shape;
	TRY(Status(slb_function_shape(number, &shape)));
	ffi::DataType type = TypeOf(shape.dtype), value_type = TypeOf(shape.value_dtype);
	TRY(CheckMatrix(x, "x", -1, shape.in_features, type));
	int64_t batch = x.dimensions()[0];
	TRY(CheckMatrix(*y, "y", batch, shape.out_features, type));
	TRY(CheckVector(values, "values", shape.nnz, value_type));
	if (shape.bias)
		TRY(CheckVector(bias, "bias", shape.out_features, value_type));
	return Status(slb_forward(number, batch, x.untyped_data(), 0, values.untyped_data(),
							  shape.bias ? bias.untyped_data() : nullptr, y->untyped_data(), 0, Wanted(kept)));
}

ffi::Error Backward(ffi::AnyBuffer x, ffi::AnyBuffer y, ffi::AnyBuffer kept, ffi::AnyBuffer dy, ffi::AnyBuffer values,
					ffi::Result<ffi::AnyBuffer> dx, ffi::Result<ffi::AnyBuffer> dvalues,
					ffi::Result<ffi::AnyBuffer> dbias, int64_t number) {
	slb_shape shape;
	TRY(Status(slb_function_shape(number, &shape)));
	ffi::DataType type = TypeOf(shape.dtype), value_type = TypeOf(shape.value_dtype);
	TRY(CheckMatrix(dy, "dy", -1, shape.out_features, type));
	int64_t batch = dy.dimensions()[0];
	bool has_kept = kept.element_count() > 0;
	if (!has_kept)
		TRY(CheckMatrix(x, "x", batch, shape.in_features, type));
	int64_t bytes;
	TRY(Status(slb_kept_bytes(number, batch, &bytes)));
	if (has_kept && static_cast<int64_t>(kept.size_bytes()) < bytes)
		return Fail("what the forward kept is too small");
	TRY(CheckVector(values, "values", shape.nnz, value_type));
	TRY(CheckVector(*dvalues, "the gradient of values", shape.nnz, value_type));
	if (y.element_count())
		TRY(CheckMatrix(y, "y", batch, shape.out_features, type));
	return Status(slb_backward(number, batch, x.untyped_data(), 0, y.untyped_data(),
							   has_kept ? kept.untyped_data() : nullptr, dy.untyped_data(), 0, values.untyped_data(),
							   Wanted(dx), dvalues->untyped_data(), static_cast<int64_t>(dvalues->element_count()),
							   Wanted(dbias)));
}

// BCOO: [entries, 2] indices and their values; those outside the matrix are padding.
ffi::Error TakeEntries(const ffi::AnyBuffer &indices, const ffi::AnyBuffer &entries, int64_t batch, ffi::DataType type,
					   slb_entries *x) {
	auto dims = indices.dimensions();
	bool wide = indices.element_type() == ffi::DataType::S64;
	if (dims.size() != 2 || dims[1] != 2 || (!wide && indices.element_type() != ffi::DataType::S32))
		return Fail("the indices of x have shape " + Text(dims) + "; (entries, 2) of int32 or int64 is needed");
	TRY(CheckVector(entries, "x", dims[0], type));
	size_t size = wide ? 8 : 4;
	const char *data = static_cast<const char *>(indices.untyped_data());
	*x = slb_entries();
	x->batch = batch;
	x->count = dims[0];
	x->rows = data;
	x->columns = data + size;
	x->index_dtype = wide ? SL_I64 : SL_I32;
	x->stride = 2;
	x->values = entries.untyped_data();
	x->padded = 1;
	return ffi::Error::Success();
}

ffi::Error ForwardSparse(ffi::AnyBuffer indices, ffi::AnyBuffer entries, ffi::AnyBuffer values, ffi::AnyBuffer bias,
						 ffi::Result<ffi::AnyBuffer> y, int64_t number) {
	slb_shape shape;
	slb_entries x;
	TRY(Status(slb_function_shape(number, &shape)));
	ffi::DataType type = TypeOf(shape.dtype);
	TRY(CheckMatrix(*y, "y", -1, shape.out_features, type));
	TRY(TakeEntries(indices, entries, y->dimensions()[0], type, &x));
	TRY(CheckVector(values, "values", shape.nnz, type));
	if (shape.bias)
		TRY(CheckVector(bias, "bias", shape.out_features, type));
	return Status(slb_forward_sparse(number, &x, values.untyped_data(), shape.bias ? bias.untyped_data() : nullptr,
									 y->untyped_data()));
}

ffi::Error BackwardSparse(ffi::AnyBuffer indices, ffi::AnyBuffer entries, ffi::AnyBuffer y, ffi::AnyBuffer dy,
						  ffi::Result<ffi::AnyBuffer> dvalues, ffi::Result<ffi::AnyBuffer> dbias, int64_t number) {
	slb_shape shape;
	slb_entries x;
	TRY(Status(slb_function_shape(number, &shape)));
	ffi::DataType type = TypeOf(shape.dtype);
	TRY(CheckMatrix(dy, "dy", -1, shape.out_features, type));
	int64_t batch = dy.dimensions()[0];
	TRY(TakeEntries(indices, entries, batch, type, &x));
	if (y.element_count())
		TRY(CheckMatrix(y, "y", batch, shape.out_features, type));
	TRY(CheckVector(*dvalues, "the gradient of values", shape.nnz, type));
	return Status(slb_backward_sparse(number, &x, y.untyped_data(), dy.untyped_data(), dvalues->untyped_data(),
									  static_cast<int64_t>(dvalues->element_count()), Wanted(dbias)));
}

// All handlers: so many buffers in, so many out, and the function's number.
template <int in, int out, typename Binding> auto Buffers(Binding binding) {
	if constexpr (in > 0)
		return Buffers<in - 1, out>(std::move(binding).template Arg<ffi::AnyBuffer>());
	else if constexpr (out > 0)
		return Buffers<0, out - 1>(std::move(binding).template Ret<ffi::AnyBuffer>());
	else
		return std::move(binding).template Attr<int64_t>("number");
}

} // namespace

#define HANDLER(name, function, in, out)                                                                               \
	XLA_FFI_DEFINE_HANDLER_SYMBOL(sparselayer_xla_##name, function, (Buffers<in, out>(ffi::Ffi::Bind())))

#pragma GCC visibility push(default)
HANDLER(forward, Forward, 3, 2);
HANDLER(backward, Backward, 5, 3);
HANDLER(forward_sparse, ForwardSparse, 4, 1);
HANDLER(backward_sparse, BackwardSparse, 4, 2);
#pragma GCC visibility pop
