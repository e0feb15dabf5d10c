/* SPDX-License-Identifier: Apache-2.0 */
/* Ratings: the network is given what a user has rated and says what the user would rate (an autoencoder as AutoRec:
 * Sedhain et al. 2015; with implicit ratings by the multinomial likelihood of Liang et al. 2018). A part of each user's
 * ratings is hidden from it, to test with. */
#include "samples.h"

static int64_t row_begin(const sl_sparse *m, int64_t r) {
	return m->offset_dtype == SL_I64 ? ((const int64_t *)m->offsets)[r] : ((const int32_t *)m->offsets)[r];
}

/* Entries of all, increasing, as a matrix of their own. */
static sl_status take_entries(sample_files *f, const sl_sparse *all, const int32_t *users, const int64_t *entries,
							  int64_t count, sl_sparse *part) {
	int64_t *offsets = hold_memory(f, (size_t)(all->rows + 1) * sizeof *offsets), row = 0;
	int32_t *columns = hold_memory(f, (size_t)count * sizeof *columns);
	float *values = hold_memory(f, (size_t)count * sizeof *values);
	if (!offsets || !columns || !values)
		return SL_ERR_MEMORY;
	for (int64_t i = 0; i < count; i++) {
		columns[i] = ((const int32_t *)all->col_indices)[entries[i]];
		values[i] = ((const float *)all->values)[entries[i]];
		while (row <= users[entries[i]])
			offsets[row++] = i;
	}
	while (row <= all->rows)
		offsets[row++] = count;
	*part = (sl_sparse){.format = SL_SPARSE_CSR,
						.rows = all->rows,
						.cols = all->cols,
						.nnz = count,
						.offsets = offsets,
						.offset_dtype = SL_I64,
						.col_indices = columns,
						.index_dtype = SL_I32,
						.values = values,
						.dtype = SL_F32};
	return SL_OK;
}

/* Which entries are to train with, to watch and to test with: a part of each user's. */
static sl_status divide(sample_files *f, sl_context *context, const int32_t *users, int64_t count, int64_t *entries,
						int64_t begin[PARTS + 1]) {
	int64_t kept = count;
	begin[0] = 0;
	begin[3] = count;
	SL_TRY(sl_split(context, count, users, f->held_out, 0, entries, &kept));
	begin[1] = begin[2] = kept;
	if (!(f->validation > 0))
		return SL_OK;
	int32_t *own = hold_memory(f, (size_t)kept * sizeof *own);
	int64_t *chosen = hold_memory(f, (size_t)kept * sizeof *chosen);
	int64_t *old = hold_memory(f, (size_t)kept * sizeof *old);
	if (!own || !chosen || !old)
		return SL_ERR_MEMORY;
	for (int64_t i = 0; i < kept; i++) {
		old[i] = entries[i];
		own[i] = users[entries[i]];
	}
	SL_TRY(sl_split(context, kept, own, f->validation, 1, chosen, &begin[1]));
	for (int64_t i = 0; i < kept; i++)
		entries[i] = old[chosen[i]];
	return SL_OK;
}

sl_status read_ratings(sample_files *f, sl_context *context) {
	sl_ratings_options o = {SL_RATINGS_DEFAULTS, .implicit = f->implicit};
	sl_dataset_content content = {.struct_size = sizeof content};
	int64_t begin[PARTS + 1];
	SL_TRY(sl_dataset_read_ratings(&f->train_set, context, f->data, &o, NULL));
	SL_TRY(sl_dataset_get(context, f->train_set, &content));
	sl_sparse all = sl_sparse_from_csr(content.inputs);
	int32_t *users = hold_memory(f, (size_t)all.nnz * sizeof *users);
	int64_t *entries = hold_memory(f, (size_t)all.nnz * sizeof *entries);
	if (!users || !entries)
		return SL_ERR_MEMORY;
	for (int64_t r = 0; r < all.rows; r++)
		for (int64_t k = row_begin(&all, r); k < row_begin(&all, r + 1); k++)
			users[k] = (int32_t)r;
	SL_TRY(divide(f, context, users, all.nnz, entries, begin));
	for (int p = 0; p < PARTS; p++) {
		SL_TRY(take_entries(f, &all, users, entries + begin[p], begin[p + 1] - begin[p], &f->targets[p]));
		f->part[p].sparse_inputs = &f->targets[TRAIN_PART];
		f->part[p].sparse_targets = &f->targets[p];
		f->part[p].ignore_zeros = !f->implicit;
	}
	f->count = all.rows;
	f->features = f->classes = all.cols;
	return SL_OK;
}
