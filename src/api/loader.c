/* SPDX-License-Identifier: Apache-2.0 */
#include <sparselayer/loader.h>

#include <math.h>

#include <sparselayer/share.h>

#include "ops/ops.h"
#include "train/loader.h"
#include "train/order.h"

static sl_status check_csr(sl_context *context, const sl_sparse *view, const char *name) {
	SL_TRY(sli_check_sparse(context, view, name, 0));
	if (view->format != SL_SPARSE_CSR)
		return sli_fail(context, SL_ERR_LAYOUT, "%s must be CSR, whose rows alone can be chosen without copying", name);
	return SL_OK;
}

static sl_status check_rows(sl_context *context, const sl_sparse *inputs, const sl_loader_options *o) {
	if (o->subset_count < 0 || (o->subset_count && !o->subset))
		return sli_fail(context, o->subset ? SL_ERR_ARGUMENT : SL_ERR_NULL,
						"options.subset_count is %lld and subset %s", (long long)o->subset_count,
						o->subset ? "is given" : "null");
	for (int64_t i = 0; o->subset && i < o->subset_count; i++)
		if (o->subset[i] < 0 || o->subset[i] >= inputs->rows)
			return sli_fail(context, SL_ERR_ARGUMENT, "options.subset[%lld] is %lld; it must be in [0, %lld)",
							(long long)i, (long long)o->subset[i], (long long)inputs->rows);
	return SL_OK;
}

static sl_status check_weights(sl_context *context, const sl_sparse *inputs, const sl_loader_options *o) {
	if (!o->class_weights)
		return SL_OK;
	if (!o->labels || o->targets)
		return sli_fail(context, SL_ERR_ARGUMENT, "options.class_weights go with labels and without targets");
	if (o->classes < 0 || o->classes > INT32_MAX)
		return sli_fail(context, SL_ERR_ARGUMENT, "options.classes is %lld", (long long)o->classes);
	for (int64_t c = 0; c < o->classes; c++)
		if (!(o->class_weights[c] >= 0) || isinf(o->class_weights[c]))
			return sli_fail(context, SL_ERR_ARGUMENT, "options.class_weights[%lld] is %g; 0 or more is needed",
							(long long)c, o->class_weights[c]);
	for (int64_t i = 0; i < inputs->rows; i++)
		if (o->labels[i] < 0 || o->labels[i] >= o->classes)
			return sli_fail(context, SL_ERR_ARGUMENT, "options.labels[%lld] is %d; it must be in [0, %lld)",
							(long long)i, (int)o->labels[i], (long long)o->classes);
	return SL_OK;
}

static sl_status check_share(sl_context *context, const sl_sparse *inputs, const sl_loader_options *o) {
	const sl_share *s = o->share;
	if (!s)
		return SL_OK;
	if (o->subset)
		return sli_fail(context, SL_ERR_ARGUMENT, "options.subset and share are given; one of them goes");
	if (s->struct_size < sizeof *s || !s->comm || s->parts < 1)
		return sli_fail(context, SL_ERR_ARGUMENT, "options.share was not filled in by a call of share.h");
	if (s->count != inputs->rows)
		return sli_fail(context, SL_ERR_SHAPE, "inputs has %lld rows; their share has %lld of %lld",
						(long long)inputs->rows, (long long)s->count, (long long)s->total);
	if (o->batch < s->total && o->batch % s->parts)
		return sli_fail(
			context, SL_ERR_ARGUMENT,
			"options.batch is %lld; of samples read in %lld parts it must be a multiple of that, as %lld is",
			(long long)o->batch, (long long)s->parts, (long long)((o->batch / s->parts + 1) * s->parts));
	return SL_OK;
}

sl_status sl_loader_create(sl_loader **loader, sl_context *context, const sl_sparse *inputs,
						   const sl_loader_options *options) {
	sl_loader_options o = {.struct_size = sizeof o};
	if (loader)
		*loader = NULL;
	if (!context)
		return SL_ERR_NULL;
	if (!loader)
		return sli_fail(context, SL_ERR_NULL, "loader is null");
	if (options)
		SL_TRY(sli_take_struct(context, &o, sizeof o, options, "options"));
	SL_TRY(check_csr(context, inputs, "inputs"));
	o.batch = o.batch ? o.batch : 32;
	if (o.batch < 1 || o.batch > INT32_MAX || o.prefetch < 0 || o.prefetch > 1 << 20)
		return sli_fail(context, SL_ERR_ARGUMENT, "options.batch is %lld and prefetch %lld", (long long)o.batch,
						(long long)o.prefetch);
	if (o.targets) {
		SL_TRY(check_csr(context, o.targets, "options.targets"));
		if (o.targets->rows != inputs->rows)
			return sli_fail(context, SL_ERR_SHAPE, "options.targets has %lld rows, inputs %lld",
							(long long)o.targets->rows, (long long)inputs->rows);
	}
	SL_TRY(check_rows(context, inputs, &o));
	SL_TRY(check_share(context, inputs, &o));
	SL_TRY(check_weights(context, inputs, &o));
	return sli_loader_create(loader, context, inputs, &o);
}

sl_status sl_loader_next(sl_context *context, sl_loader *loader, sl_batch *batch) {
	sl_batch own;
	if (!context)
		return SL_ERR_NULL;
	if (!loader || !batch)
		return sli_fail(context, SL_ERR_NULL, "%s is null", loader ? "batch" : "loader");
	sli_loader_next(loader, &own);
	return sli_give_struct(context, batch, &own, sizeof own, "batch");
}

sl_status sl_loader_seek(sl_context *context, sl_loader *loader, int64_t epoch, int64_t first) {
	if (!context)
		return SL_ERR_NULL;
	if (!loader)
		return sli_fail(context, SL_ERR_NULL, "loader is null");
	int64_t batch = sli_loader_batch(loader), samples = sli_loader_samples(loader);
	if (epoch < 0 || first < 0 || first > samples || (first % batch && first != samples))
		return sli_fail(context, SL_ERR_ARGUMENT,
						"epoch is %lld and first %lld; a multiple of %lld up to all %lld samples is needed",
						(long long)epoch, (long long)first, (long long)batch, (long long)samples);
	sli_loader_seek(loader, epoch, first);
	return SL_OK;
}

sl_status sl_split(sl_context *context, int64_t count, const int32_t *labels, double fraction, uint64_t stream,
				   int64_t *rows, int64_t *first_count) {
	if (!context)
		return SL_ERR_NULL;
	if (count < 0 || count > PTRDIFF_MAX / 64 || !(fraction >= 0 && fraction <= 1))
		return sli_fail(context, SL_ERR_ARGUMENT, "count is %lld and fraction %g; a fraction is in [0, 1]",
						(long long)count, fraction);
	if (!first_count || (count && !rows))
		return sli_fail(context, SL_ERR_NULL, "%s is null", first_count ? "rows" : "first_count");
	return sli_split(context, count, labels, fraction, stream, rows, first_count);
}

sl_status sl_class_weights(sl_context *context, const int32_t *labels, int64_t count, int64_t classes,
						   double *weights) {
	int64_t occurring = 0;
	if (!context)
		return SL_ERR_NULL;
	if ((count > 0 && !labels) || (classes > 0 && !weights))
		return sli_fail(context, SL_ERR_NULL, "%s is null", labels ? "weights" : "labels");
	for (int64_t c = 0; c < classes; c++)
		weights[c] = 0;
	for (int64_t i = 0; i < count; i++) {
		if (labels[i] < 0 || labels[i] >= classes)
			return sli_fail(context, SL_ERR_ARGUMENT, "labels[%lld] is %d; it must be in [0, %lld)", (long long)i,
							(int)labels[i], (long long)classes);
		weights[labels[i]] += 1;
	}
	for (int64_t c = 0; c < classes; c++)
		occurring += weights[c] > 0;
	for (int64_t c = 0; c < classes; c++)
		if (weights[c] > 0)
			weights[c] = (double)count / ((double)occurring * weights[c]);
	return SL_OK;
}
