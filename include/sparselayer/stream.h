/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file stream.h
 * Products over a sparse matrix that does not fit the memory budget: it is read a range of rows at a time while the
 * ranges before are computed. Where the matrix lives is a source: host arrays, a file, or a callback. Chunk sizes
 * follow from the budget.
 *
 * Results of a forward and gradients of weights have the bits of sl_spmm() and sl_sddmm() with sparse plans, whatever
 * the chunks, slots, threads and budget (docs/streaming.md names what that does not cover); those of a transposed
 * product do not depend on them either, and differ from the ones in memory by rounding.
 */
#ifndef SPARSELAYER_STREAM_H
#define SPARSELAYER_STREAM_H

#include "io.h"

SL_BEGIN_DECLS

/** Opaque: a sparse matrix, read a range of rows at a time. One call at a time uses it. */
typedef struct sl_source sl_source;

/**
 * Rows of a matrix on demand. Called from an I/O thread, one call at a time, rows in order from 0.
 * Write rows from `first_row` on, as many as fit `max_rows` and `max_entries`: at least one.
 * @param row_offsets receives rows + 1 offsets, the first 0
 * @param col_indices receives the columns, which increase within a row
 * @param values receives elements of the source's dtype
 * @return rows written; below 1: failure, which ends the call with #SL_ERR_IO
 */
typedef int64_t (*sl_csr_rows_callback)(void *user, int64_t first_row, int64_t max_rows, int64_t max_entries,
										int32_t *row_offsets, int32_t *col_indices, void *values);

/**
 * A matrix in a file, which is read where it lies: safetensors as sl_csr_write() writes it. Other formats are to be
 * converted once, see sl_convert_file(). The file must not change while the source is used.
 * @return as sl_csr_read(); #SL_ERR_UNSUPPORTED (another format), #SL_ERR_DTYPE (values neither f32 nor f64)
 */
SL_API sl_status sl_source_open(sl_source **source, sl_context *context, const char *path,
								const sl_read_limits *limits);
/** A matrix in host memory, borrowed. @return #SL_ERR_DTYPE (neither f32 nor f64) */
SL_API sl_status sl_source_create_csr(sl_source **source, sl_context *context, sl_csr *matrix);
/**
 * A matrix from a callback.
 * @param nnz entries in all; a product that receives another number fails
 * @param dtype #SL_F32 or #SL_F64
 */
SL_API sl_status sl_source_create_callback(sl_source **source, sl_context *context, int64_t rows, int64_t cols,
										   int64_t nnz, sl_dtype dtype, sl_csr_rows_callback read, void *user);
/** How to convert. Zero means the default that is named. */
typedef struct sl_convert_options {
	size_t struct_size;           /**< sizeof(sl_convert_options) */
	sl_format format;             /**< of the file that is read; default: by content, then by name */
	sl_dtype dtype;               /**< of the values that are written; default as they are, halves as #SL_F32 */
	const sl_read_limits *limits; /**< default: those of sl_csr_read() */
} sl_convert_options;
/** Begins an initializer of #sl_convert_options. */
#define SL_CONVERT_DEFAULTS .struct_size = sizeof(sl_convert_options)

/**
 * Convert a matrix of any format that sl_csr_read() reads into a safetensors file that sl_source_open() reads. A .npz,
 * .mtx or svmlight file may be larger than the memory_budget: it is read a piece at a time, and entries that do not
 * come in the order of rows and columns are sorted by way of a temporary file beside `to`, of 24 bytes an entry and
 * twice that for a while. Entries of one place are added up, as by sl_csr_read(). Progress goes to the context's
 * callback
 * ("convert"), as bytes of the file, or twice those where they have to be sorted.
 * @param options NULL: defaults
 * @return as sl_csr_read() and sl_csr_write(); #SL_ERR_CANCELLED, #SL_ERR_NO_SPACE. An old file at `to` is then as
 * before
 */
SL_API sl_status sl_convert_file(sl_context *context, const char *from, const char *to,
								 const sl_convert_options *options);
/** sl_convert_file() with a format and limits alone. */
SL_API sl_status sl_source_convert(sl_context *context, const char *from, sl_format format,
								   const sl_read_limits *limits, const char *to);
/** Destroy. NULL is allowed. */
SL_API void sl_source_destroy(sl_source *source);

/** Shape of a source. */
typedef struct sl_source_info {
	size_t struct_size; /**< sizeof(sl_source_info); set it before the call */
	int64_t rows;       /**< of the matrix */
	int64_t cols;       /**< of the matrix */
	int64_t nnz;        /**< entries */
	sl_dtype dtype;     /**< of the values */
	bool in_memory;     /**< host arrays: nothing is read */
	bool direct;        /**< read past the page cache */
} sl_source_info;
/** Fill in `info`. */
SL_API sl_status sl_source_get_info(sl_context *context, const sl_source *source, sl_source_info *info);

/** What a stage of the pipeline did. */
typedef enum sl_stream_stage {
	SL_STAGE_READ = 0,     /**< disk or callback to host memory */
	SL_STAGE_TRANSFER = 1, /**< host to device; none on the CPU */
	SL_STAGE_COMPUTE = 2,  /**< the product */
	SL_STAGE_WRITE = 3     /**< back to disk */
} sl_stream_stage;
/** One stage of one chunk. */
typedef struct sl_stream_event {
	sl_stream_stage stage; /**< which */
	int64_t chunk;         /**< counted from 0 in each pass */
	double begin;          /**< seconds since the call began */
	double end;            /**< likewise */
	int64_t bytes;         /**< moved */
} sl_stream_event;

/** How to stream. Zero means the default that is named. */
typedef struct sl_stream_options {
	size_t struct_size; /**< sizeof(sl_stream_options) */
	size_t host_budget; /**< most bytes of slots and read-ahead in host memory; default: what memory_budget leaves */
	int slots;          /**< chunks in flight, 2 to 16; default 3; 2 for a product with a batch above 512, 4 where
						   values are written back */
	size_t slot_bytes;  /**< most bytes of a slot; default 64 MiB; for a product 32 with a batch of at most 128,
						   128 with one above 512. The budget may make it less */
	bool buffered;      /**< read and write through the page cache, for file systems where direct I/O is slow */
	sl_stream_event *events; /**< receives what each stage did; NULL: not kept */
	int64_t event_capacity;  /**< elements at `events` */
} sl_stream_options;
/** Begins an initializer of #sl_stream_options. */
#define SL_STREAM_DEFAULTS .struct_size = sizeof(sl_stream_options)

/** What a streamed call did. */
typedef struct sl_stream_report {
	size_t struct_size;     /**< sizeof(sl_stream_report); set it before the call */
	int64_t passes;         /**< times the matrix was read */
	int64_t chunks;         /**< in all passes */
	int64_t chunk_entries;  /**< most entries of a chunk */
	int64_t chunk_rows;     /**< most rows of a chunk */
	int slots;              /**< of the ring */
	size_t bytes_held;      /**< slots, panels and workspace */
	int64_t bytes_read;     /**< from disk or host arrays */
	int64_t bytes_written;  /**< to disk */
	double seconds;         /**< of the call */
	double read_seconds;    /**< the reader was busy */
	double compute_seconds; /**< the products took */
	double write_seconds;   /**< the writer was busy */
	double wait_seconds;    /**< computing waited for the reader or writer */
	int64_t events;         /**< stages there were to record, which may be more than event_capacity */
} sl_stream_report;

/**
 * C = epilogue(alpha * op(A) * B + beta * C) with A streamed: sl_spmm() for a matrix of any size. Progress goes to
 * the context's callback, as bytes done of all; returning false cancels. With #SL_TRANSPOSE there is no epilogue.
 * @param A [m, k], or [k, m] with #SL_TRANSPOSE
 * @param B [k, n] in any order; where it is not in panels, it is packed, as many columns at a time as the budget holds,
 *          and A is read once for each part (transposed: a row range at a time)
 * @param C [m, n] in any order
 * @param epilogue NULL: none
 * @param options NULL: defaults
 * @param report filled in unless NULL
 * @return as sl_spmm(); #SL_ERR_BUDGET names the least that would do; #SL_ERR_IO, #SL_ERR_FORMAT (a file that ends
 *         early), #SL_ERR_STRUCTURE, #SL_ERR_UNSUPPORTED (an epilogue of a transposed product, or by this backend),
 *         #SL_ERR_CANCELLED. C is then not complete
 */
SL_API sl_status sl_stream_spmm(sl_context *context, sl_transpose transpose, double alpha, sl_source *A,
								const sl_dense *B, double beta, sl_dense *C, const sl_epilogue *epilogue,
								const sl_stream_options *options, sl_stream_report *report);
/**
 * values = alpha * (A * B at the entries of S's pattern): sl_sddmm() for a pattern of any size.
 * @param A [m, k]
 * @param B [k, n]
 * @param S [m, n]; its values are not read
 * @param values nnz elements of A's dtype in host memory
 * @return as sl_stream_spmm()
 */
SL_API sl_status sl_stream_sddmm(sl_context *context, double alpha, const sl_dense *A, const sl_dense *B, sl_source *S,
								 void *values, const sl_stream_options *options, sl_stream_report *report);

SL_END_DECLS
#endif
