/* SPDX-License-Identifier: Apache-2.0 */
#include "io/share.h"

#include "ops/ops.h"

/* What all readers by share are given: `share` becomes `own`, `options` (may be NULL, `size` bytes) `own_options`. All
 * ranks know whether it is right. */
static sl_status take_share(sl_context *context, const char *path, const void *options, void *own_options, size_t size,
							const sl_read_limits *limits, sl_read_limits *full, const sl_share *share, sl_share *own) {
	sl_status status = SL_OK;
	*own = (sl_share){.struct_size = sizeof *own};
	if (!share)
		return sli_fail(context, SL_ERR_NULL, "share is null");
	SL_TRY(sli_take_struct(context, own, sizeof *own, share, "share"));
	if (!own->comm)
		return sli_fail(context, SL_ERR_NULL, "share.comm is null");
	own->parts = own->parts ? own->parts : 8;
	if (own->parts < sl_comm_size(own->comm) || own->parts > 1 << 20)
		status = sli_fail(context, SL_ERR_ARGUMENT, "share.parts is %lld; at least as many as the %d ranks are needed",
						  (long long)own->parts, sl_comm_size(own->comm));
	if (status == SL_OK && !path)
		status = sli_fail(context, SL_ERR_NULL, "path is null");
	if (status == SL_OK && options)
		status = sli_take_struct(context, own_options, size, options, "options");
	if (status == SL_OK)
		status = sli_read_limits(context, limits, full);
	return status;
}

static sl_status agree(sl_context *context, sl_comm *comm, sl_status mine, const int64_t *options, int count) {
	uint64_t sum = 14695981039346656037u;
	SL_TRY(sli_comm_settle(context, comm, mine));
	for (int i = 0; i < count; i++)
		sum = (sum ^ (uint64_t)options[i]) * 1099511628211u;
	return sli_comm_agree(context, comm, "the parts of the file or the options it is read with", sum);
}

static sl_status give_share(sl_context *context, sl_share *share, const sl_share *own) {
	return sli_give_struct(context, share, own, sizeof *own, "share");
}

/* Whether `own` was taken: then there are ranks to be told. */
static bool there(const sl_share *own) {
	return own->comm != NULL;
}

sl_status sl_dataset_read_svmlight_share(sl_dataset **dataset, sl_context *context, const char *path,
										 const sl_svmlight_options *options, const sl_read_limits *limits,
										 sl_share *share) {
	sl_svmlight_options o = {.struct_size = sizeof o};
	sl_read_limits full;
	sl_share own;
	if (dataset)
		*dataset = NULL;
	if (!context)
		return SL_ERR_NULL;
	sl_status status = take_share(context, path, options, &o, sizeof o, limits, &full, share, &own);
	if (!there(&own))
		return status;
	if (status == SL_OK && !dataset)
		status = sli_fail(context, SL_ERR_NULL, "dataset is null");
	if (status == SL_OK)
		status = sli_check_svmlight(context, &o);
	const int64_t all[] = {own.parts, o.labels, o.base, o.features, o.classes, o.dtype, o.like != NULL};
	SL_TRY(agree(context, own.comm, status, all, 7));
	SL_TRY(sli_svmlight_read_share(dataset, context, path, &o, &full, &own));
	return give_share(context, share, &own);
}

sl_status sl_dataset_read_ratings_share(sl_dataset **dataset, sl_context *context, const char *path,
										const sl_ratings_options *options, const sl_read_limits *limits,
										sl_share *share) {
	sl_ratings_options o = {.struct_size = sizeof o};
	sl_read_limits full;
	sl_share own;
	if (dataset)
		*dataset = NULL;
	if (!context)
		return SL_ERR_NULL;
	sl_status status = take_share(context, path, options, &o, sizeof o, limits, &full, share, &own);
	if (!there(&own))
		return status;
	if (status == SL_OK && !dataset)
		status = sli_fail(context, SL_ERR_NULL, "dataset is null");
	if (status == SL_OK)
		status = sli_check_ratings(context, &o);
	if (status == SL_OK && o.like)
		status = sli_fail(context, SL_ERR_UNSUPPORTED, "options.like: ratings are read by share without");
	int64_t least;
	memcpy(&least, &o.min_rating, sizeof least);
	const int64_t all[] = {own.parts, least, o.implicit, o.duplicates, o.dtype};
	SL_TRY(agree(context, own.comm, status, all, 5));
	SL_TRY(sli_ratings_read_share(dataset, context, path, &o, &full, &own));
	return give_share(context, share, &own);
}

sl_status sl_dataset_read_mnist_share(sl_dataset **dataset, sl_context *context, const char *directory, bool train,
									  sl_share *share) {
	sl_read_limits full;
	sl_share own;
	if (dataset)
		*dataset = NULL;
	if (!context)
		return SL_ERR_NULL;
	sl_status status = take_share(context, "", NULL, NULL, 0, NULL, &full, share, &own);
	if (!there(&own))
		return status;
	if (status == SL_OK && !dataset)
		status = sli_fail(context, SL_ERR_NULL, "dataset is null");
	const int64_t all[] = {own.parts, train};
	SL_TRY(agree(context, own.comm, status, all, 2));
	SL_TRY(sli_dataset_read_share(dataset, context, directory, train, &own));
	return give_share(context, share, &own);
}

sl_status sl_csr_read_share(sl_csr **matrix, sl_context *context, const char *path, sl_format format,
							const sl_read_limits *limits, sl_share *share) {
	sl_read_limits full;
	sl_share own;
	if (matrix)
		*matrix = NULL;
	if (!context)
		return SL_ERR_NULL;
	sl_status status = take_share(context, path, NULL, NULL, 0, limits, &full, share, &own);
	if (!there(&own))
		return status;
	if (status == SL_OK && !matrix)
		status = sli_fail(context, SL_ERR_NULL, "matrix is null");
	const int64_t all[] = {own.parts, format};
	SL_TRY(agree(context, own.comm, status, all, 2));
	SL_TRY(sli_csr_read_share(matrix, context, path, format, &full, &own));
	return give_share(context, share, &own);
}
