/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seam: everything the runtime asks of a device. One const table of functions, implemented by
 * src/cpu and by the CUDA module. Nothing above it knows a backend by name.
 *
 * Conventions
 * - All pointers handed to execute() are in the backend's own memory, unless a comment says "host".
 * - Matrices are in op orientation: a product is C[m,n] = A[m,k] * B[k,n]; an activation is
 *   [features, batch]. Layers turn their [batch, features] views with sl_dense_transposed().
 * - The layout a backend likes for activations is SL_COL_PANELS of panel_width(batch) columns.
 *   Padding columns of panels are zero on input, and every op that writes panels leaves them zero.
 * - execute() may see fewer columns (n) than were planned, never more.
 * - Arguments were checked by the caller: shapes meet, dtypes are legal, nothing aliases wrongly.
 *   A backend checks only what is its own affair (supports()).
 */
#ifndef SL_BACKEND_BACKEND_H
#define SL_BACKEND_BACKEND_H

#include <sparselayer/sparselayer.h>

#define SL_BACKEND_ABI 5u

/* What a backend may ask of its host. `user` is the host's. All host calls are thread-safe but
 * parallel() and fail(), which belong to the thread that uses the context. */
typedef struct sl_host {
	uint32_t abi;
	void *user;
	/* Keep a message for the user, in printf form, and return `status`. */
	sl_status (*fail)(void *user, sl_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));
	void (*log)(void *user, sl_log_level level, const char *line);
	/* Host memory, counted against the budget; 64-byte aligned; NULL when there is none. */
	void *(*allocate)(void *user, size_t bytes);
	void (*release)(void *user, void *pointer, size_t bytes);
	/* Count memory the backend got elsewhere (device memory) against the budget; false: over it. */
	bool (*reserve)(void *user, size_t bytes);
	void (*unreserve)(void *user, size_t bytes);
	/* Run task(argument, i) for i in [0, count) on the context's threads. */
	void (*parallel)(void *user, size_t count, void (*task)(void *argument, size_t index), void *argument);
	int threads;
	bool deterministic;
	void *stream; /* the caller's, or NULL */
	int device_index;
	sl_device_allocator device_allocator; /* the caller's, or NULLs */
	size_t pool_keep;                     /* 0: all */
	bool tf32;                            /* operands of f32 products may be rounded to TF32 */
} sl_host;

typedef enum sl_op_kind {
	/* c = a, converted in order and dtype. */
	SL_OP_CONVERT = 0,
	/* c = epilogue(alpha * op(S) * b + beta * c); S = desc.sparse with args.values; pre-activation to d. */
	SL_OP_SPMM,
	/* values_out = alpha * (a * b sampled on S) + beta * values_out. */
	SL_OP_SDDMM,
	/* c = epilogue(alpha * a * b + beta * c); pre-activation to d. */
	SL_OP_GEMM,
	/* vector[1][i] = vector[0][permutation[i]] for i < count; permutation = vector[2] of desc.index_dtype. */
	SL_OP_GATHER,
	/* c = activation(a); c may be a. */
	SL_OP_ACTIVATION,
	/* c = b * activation'(a), a being the saved output or input; c may be b. bias_gradient, unless
	 * NULL: beta * it + row sums of c. */
	SL_OP_ACTIVATION_GRAD,
	/* desc.variant is an sl_reduce. */
	SL_OP_REDUCE,
	/* desc.variant is an sl_elementwise. */
	SL_OP_ELEMENTWISE,
	/* desc.variant is an sl_loss. a = outputs [features, batch]; labels, or args.batch, or b = targets; c = gradient
	 * (data NULL: not wanted; may be a), multiplied by alpha. Adds into *(sl_loss_sums *)result. desc.stored_only: of
	 * args.batch, whose columns increase in each row, entries that are not stored do not count. */
	SL_OP_LOSS,
	/* desc.variant is an sl_optimizer_kind. vector = {value, gradient, first moment, second moment},
	 * count elements of desc.a.dtype; parameters in args.update. */
	SL_OP_UPDATE,
	/* A batch of sparse rows times W kept by feature: c [batch, out] row-major = epilogue(args.batch * W), W being b
	 * [in, out] row-major or, where desc.sparse has a pattern, CSR of that shape with args.values. bias has c.cols
	 * elements. Pre-activation to d, row-major. */
	SL_OP_INPUT,
	/* args.batch's entries by column, into args.groups; row_starts[g] is where row g of a gradient begins that has a
	 * row for each group, of desc.b.cols elements or as many as the pattern's row has. desc.count: entries. */
	SL_OP_INPUT_GROUP,
	/* values_out[row_starts[g]...] (+)= sum over the entries of group g of value * a(sample, .), a [batch, out]
	 * row-major; at the pattern's columns where there is one; added to what is there unless alpha is 0. bias_gradient,
	 * unless NULL: beta * it + column sums of a. */
	SL_OP_INPUT_GRAD,
	/* SL_OP_UPDATE of the rows of a row-sparse gradient: vector[1] is packed, args.groups says which rows and where.
	 * The others are of a matrix of desc.b.rows rows of desc.b.cols elements, or of the pattern's. desc.transpose: all
	 * rows, those without a gradient having zeros. */
	SL_OP_UPDATE_ROWS,
	/* desc.variant is an sl_spgemm_step; args.spgemm. desc.count: entries that a row of C has at most. */
	SL_OP_SPGEMM,
	/* Products with args.chunk, a range of rows of a matrix that is not in memory as a whole: f32 or f64, args in
	 * panels of the plan's desc.chunk_width. A view with a row for each row of the whole matrix (c and d
	 * here, a below) is that matrix's, with data at the chunk's first row. Padding of the chunk's rows is left zero.
	 * c = epilogue(alpha * S * b); a chunk that does not begin its row adds to c, one that does not end it leaves
	 * the epilogue out. Bits are those of SPMM by the sparse candidate. */
	SL_OP_CHUNK_SPMM,
	/* values_out (NULL: not wanted) = alpha * (a * b^T sampled on S), args.b being [S.cols, n], with the bits of SDDMM;
	 * c (data NULL: not wanted) += alpha * S^T * a, row after row, so that bits do not depend on how rows are cut into
	 * chunks. */
	SL_OP_CHUNK_BACKWARD,
	/* args.step: make the numbers of an optimizer's next step, and count it (src/backend/step.h). */
	SL_OP_ADVANCE,
	/* desc.variant is an sl_pattern_step, desc.sparse.arrays the pattern. Not in a backend of host memory. */
	SL_OP_PATTERN,
	/* The desc.count elements of largest magnitude in each row of a * b (of equal ones the first; NaN above all), but
	 * for the cells of desc.sparse and what is not above args.count (the bits of an f32 without its sign; -1: all):
	 * vector[0] int32 [a.rows], how many; vector[1] int32 and vector[2] [a.rows, desc.count], their columns, increasing,
	 * and the bits of their magnitudes. The product does not exist as a whole. A backend whose candidates() are none
	 * does not have it for the description. */
	SL_OP_TOP,
	SL_OP_COUNT
} sl_op_kind;

typedef enum sl_reduce {
	SL_REDUCE_ROW_SUMS = 0, /* vector[0][r] = beta * it + sum over columns of a(r, .) */
	SL_REDUCE_SUM_SQUARES,  /* *(double *)result += sum of (alpha x)^2 over vector[0][0..count), of desc.a.dtype; alpha
							   0: 1. beta above 0: x clamped to [-beta, beta] first; NaN stays */
	SL_REDUCE_NONFINITE     /* *(int64_t *)result = index of the first NaN or infinity in vector[0], or -1 */
} sl_reduce;

typedef enum sl_elementwise {
	SL_ELEMENTWISE_SCALE = 0, /* vector[0] *= alpha */
	SL_ELEMENTWISE_FILL,      /* vector[0] = alpha */
	SL_ELEMENTWISE_CLAMP,     /* vector[0] = clamp(vector[0], -alpha, alpha); NaN stays */
	SL_ELEMENTWISE_AXPY       /* vector[1] += alpha * vector[0] */
} sl_elementwise;

typedef enum sl_spgemm_step {
	SL_SPGEMM_COUNT = 0, /* counts[i] = entries of C's row i */
	SL_SPGEMM_FILL,      /* columns and values of C, whose offsets are there */
	SL_SPGEMM_VALUES,    /* values = alpha * (A B at C's pattern) + beta * values */
	SL_SPGEMM_DENSE,     /* dense = alpha * A B + beta * dense, row-major */
	SL_SPGEMM_GRAD_A,    /* values = alpha * (dC B^T at A's pattern) + beta * values; dC: c, or dense where c has no
							offsets */
	SL_SPGEMM_GRAD_B     /* values = alpha * (A^T dC at B's pattern) + beta * values */
} sl_spgemm_step;

typedef enum sl_pattern_step {
	SL_PATTERN_OFFSETS = 0, /* *(int64_t *)result = the first row offset that may not be so; INT64_MAX: all may */
	SL_PATTERN_COLUMNS,     /* the same of entries, where the offsets are good */
	SL_PATTERN_TRANSPOSE,   /* vector = {offsets, columns, permutation} of the transpose, int32, nnz below 2^31 */
	SL_PATTERN_NARROW       /* vector[0] = the row offsets, of int64, as int32 */
} sl_pattern_step;

enum { SL_SPGEMM_TASKS = 32 };

typedef struct sl_spgemm_args {
	sl_pattern_arrays a, b, c;
	const void *a_values, *b_values, *c_values; /* of inputs */
	sl_pattern_arrays a_transposed;             /* GRAD_B */
	const void *permutation;
	sl_dtype permutation_dtype;
	sl_dense dense;
	int64_t starts[SL_SPGEMM_TASKS + 1]; /* of the rows that are walked: a task's begin */
	int64_t *counts;
	int32_t *columns;
	void *values; /* written */
} sl_spgemm_args;

/* Sums over batches, in backend memory. Zero it (bad_row: -1) before the first. */
typedef struct sl_loss_sums {
	double loss;     /* sum over batches of mean loss * rows of the batch */
	int64_t rows;    /* batch rows seen */
	int64_t correct; /* as in sl_loss_result */
	int64_t counted;
	int64_t bad_row; /* first row of the batch whose label is out of range, else -1 */
} sl_loss_sums;

/* One step's numbers for SL_OP_UPDATE, in backend memory, so that a captured step can be replayed. */
typedef struct sl_update {
	double learning_rate; /* after the schedule */
	double momentum;
	double beta1, beta2, epsilon;
	double correction1, correction2; /* 1 - beta1^t, 1 - beta2^t; t counted from 1 */
	double weight_decay;             /* decoupled */
	double l1, l2;                   /* added to the gradient, after clipping */
	double l1_proximal;
	double clip_value;      /* 0: off; applied to the gradient first */
	double gradient_factor; /* from norm clipping; applied second; 1: none */
	double skip;            /* other than 0: nothing is changed */
} sl_update;

/* Steps of an optimizer, in backend memory. */
typedef struct sl_step {
	sl_optimizer_options rules; /* defaults filled in */
	int64_t steps, skipped;     /* made, and left out as gradients were not finite */
	double squares;             /* of the gradients, with rules.clip_norm: added up before the step */
	double norm;                /* of the last step's */
	sl_update numbers[2];       /* of the step, for parameters that decay and for others */
} sl_step;

/* Sparse rows: row r's entries are [begins[r], ends[r]). Columns are within `cols`, in any order. */
typedef struct sl_sparse_batch {
	int64_t rows, cols, nnz; /* nnz: of these rows together */
	const void *begins, *ends;
	sl_dtype offset_dtype;
	const int32_t *columns;
	const void *values; /* NULL: ones */
} sl_sparse_batch;

/* Entries by column. A row-sparse gradient keeps the first three. */
typedef struct sl_sparse_groups {
	int64_t count;
	int32_t *columns;    /* of each group, increasing */
	int64_t *row_starts; /* count + 1: where its row of the gradient begins */
	int64_t *starts;     /* count + 1: where its entries begin */
	int32_t *samples;    /* of each entry, in the order of the batch within a group */
	void *values;        /* of each entry */
} sl_sparse_groups;

typedef struct sl_matrix_desc {
	int64_t rows, cols, ld;
	sl_dtype dtype;
	sl_order order;
} sl_matrix_desc;

/* What a backend derives from a pattern and wants kept with it, one of each for a context; it outlives plans. */
typedef struct sl_derived {
	void *data[2]; /* backend's: of the pattern, of its transpose */
	size_t bytes[2];
	void (*destroy)(void *device, void *data); /* any thread */
} sl_derived;

/* A pattern as a backend sees it. Pointers stay valid while the plan lives. */
typedef struct sl_sparse_view {
	sl_pattern_arrays arrays;     /* in backend memory */
	sl_pattern_arrays transposed; /* in backend memory; only when desc.transpose, else zero */
	const void *permutation;      /* transposed entry k is entry permutation[k]; as `transposed` */
	sl_dtype permutation_dtype;
	/* The same as `arrays` and `transposed`, readable by the host; without pointers where only the backend's memory has
	 * them. */
	sl_pattern_arrays host, host_transposed;
	sl_derived *derived; /* NULL: nothing is kept */
} sl_sparse_view;

/* A range of rows of a streamed matrix, or of the entries of one row. */
typedef struct sl_chunk {
	sl_pattern_arrays arrays; /* int32 offsets from 0; in backend memory */
	const void *values;       /* in backend memory */
	bool begins, ends;        /* whether the first row's first and the last row's last entry are in it; where not, the
								 chunk is of one row */
} sl_chunk;

/* What is to be planned. Unused fields are zero. */
typedef struct sl_op_desc {
	sl_op_kind kind;
	int variant;
	sl_matrix_desc a, b, c;
	sl_sparse_view sparse;
	bool transpose; /* SPMM: op(S) = S^T */
	sl_activation activation;
	double activation_parameter;
	bool bias;
	bool pre_activation; /* d is written */
	bool stored_only;    /* LOSS */
	sl_dtype index_dtype;
	int64_t count;
	/* CHUNK_...: rows and entries of the streamed matrix, sparse.arrays being the largest chunk. a, b and c are as of
	 * the product in memory, whose bits are wanted (a and b as of SDDMM; variant: values are wanted). plan() sets the
	 * others: the width of the panels that execute() takes, columns of the batch that a part of it must be a multiple
	 * of, and columns of the matrix at whose multiples a row may be cut, 0: nowhere without changing its bits. */
	int64_t whole_rows, whole_nnz, chunk_width, chunk_batch, chunk_columns;
	const char *kernel;    /* insist on the kernel of this name (tests, benches); NULL: choose */
	const char *candidate; /* a name of candidates(): how to run it; NULL: the first of them */
	const void *device;    /* set by plan(), for the backend itself */
	bool once;             /* run once and forgotten: not worth rearranging anything for */
} sl_op_desc;

/* One way to run an op, as a backend offers it. */
typedef struct sl_candidate {
	const char *name; /* static; goes into desc.candidate */
	bool dense;       /* by way of a dense form of the sparse operand, which takes memory */
	double seconds;   /* predicted for a run of the described shape on one thread; 0: not known */
	double planning;  /* predicted for planning it, beyond what any other takes */
} sl_candidate;

/* Filled by plan(), owned by the caller, released by destroy(). Ops without state can be planned on
 * the stack in every call: planning them allocates nothing. */
typedef struct sl_op_plan {
	sl_op_desc desc;
	const void *kernel; /* backend's */
	void *state;        /* backend's; NULL where the op needs none */
	size_t workspace;   /* bytes execute() needs, 64-byte aligned */
	char text[160];     /* how it will run, for people */
} sl_op_plan;

typedef struct sl_op_args {
	double alpha, beta;
	sl_dense a, b, c, d;
	const void *values;
	void *values_out;
	const void *bias; /* c.rows elements of c's dtype, f32 for bf16 and f16 */
	void *bias_gradient;
	const int32_t *labels;
	void *vector[4];
	int64_t count;
	void *result;
	const sl_update *update;
	sl_step *step;
	const sl_chunk *chunk; /* CHUNK_...; its column indices are checked: SL_ERR_STRUCTURE */
	void *workspace;
	const sl_sparse_batch *batch;
	sl_sparse_groups *groups;
	const sl_spgemm_args *spgemm;
} sl_op_args;

/* What a backend can do as a whole. */
enum {
	SL_BACKEND_TRAINS = 1u << 0,      /* all ops of forward, backward and update over dense inputs */
	SL_BACKEND_HOST_MEMORY = 1u << 1, /* its memory is the host's: what the host reads into is computed on uncopied */
	SL_BACKEND_MEASURES = 1u << 2, /* it predicts nothing: a plan that is kept is measured for, unless told otherwise */
	SL_BACKEND_INPUTS = 1u << 3    /* and all ops of sparse inputs: only then is it taken unasked */
};

typedef struct sl_backend {
	uint32_t abi; /* SL_BACKEND_ABI */
	uint32_t flags;
	const char *name; /* "cpu", "cuda" */
	sl_device device;

	/* Devices, without opening any. Fills up to `capacity` and returns how many there are; where
	 * there is none, one entry with usable = false that says why. */
	int (*devices)(sl_device_info *devices, int capacity);

	/* State of one context on one device. `host` outlives it. */
	sl_status (*open)(const sl_host *host, void **device);
	void (*close)(void *device);
	/* "avx2, 2 threads, AMD EPYC" */
	void (*describe)(void *device, char *text, size_t size);
	/* Panel width for activations of `batch` columns of a dtype; > 0. `sparse`: whether any layer of
	 * the chain is sparse. */
	int64_t (*panel_width)(void *device, sl_dtype dtype, int64_t batch, bool sparse);

	/* Memory and order of execution. */
	sl_status (*allocate)(void *device, size_t bytes, sl_memory kind, void **pointer);
	void (*release)(void *device, void *pointer, size_t bytes, sl_memory kind);
	sl_status (*copy)(void *device, void *to, sl_memory to_kind, const void *from, sl_memory from_kind, size_t bytes);
	sl_status (*fill)(void *device, void *to, int byte, size_t bytes);
	sl_status (*event_create)(void *device, void **event);
	void (*event_destroy)(void *device, void *event);
	sl_status (*event_record)(void *device, void *event);
	sl_status (*event_wait)(void *device, void *event, bool on_host);
	sl_status (*synchronize)(void *device);
	/* NULL in a backend of host memory, all four. check(): whether what a caller handed in as `name` may be used as
	 * memory of the device, aligned to `alignment`. trim(): give back what is kept for later. capturing(): whether work
	 * is recorded, not run, so that nothing may be allocated, planned or waited for. time(): seconds that run() kept
	 * the device busy. */
	sl_status (*check)(void *device, const void *pointer, size_t alignment, const char *name);
	sl_status (*trim)(void *device);
	bool (*capturing)(void *device);
	sl_status (*time)(void *device, sl_status (*run)(void *argument), void *argument, double *seconds);

	/* Ops. supports() answers SL_OK or keeps a message and returns why not. */
	sl_status (*supports)(void *device, const sl_op_desc *desc);
	size_t (*workspace)(void *device, const sl_op_plan *plan);
	sl_status (*plan)(void *device, const sl_op_desc *desc, sl_op_plan *plan);
	sl_status (*execute)(void *device, const sl_op_plan *plan, const sl_op_args *args);
	void (*destroy)(void *device, sl_op_plan *plan);

	/* Ways to run an op that supports() accepts, the default first. Fills up to `capacity` and returns how many
	 * there are, at least 1; of SL_OP_TOP, which may be asked about unsupported, 0 where it is not. */
	int (*candidates)(void *device, const sl_op_desc *desc, sl_candidate *out, int capacity);
	/* What predictions rest on: `constants` numbers, measured by calibrate() on one thread, in well under a second,
	 * and put to use by adopt(), which refuses (false) what cannot be. machine() names all that they depend on,
	 * in one line. All four are 0 or NULL in a backend that does not predict. */
	int constants;
	sl_status (*calibrate)(void *device, double *constants);
	bool (*adopt)(void *device, const double *constants);
	void (*machine)(void *device, char *text, size_t size);
} sl_backend;

/* The CUDA module exports this symbol; it returns NULL for an ABI it does not speak. */
#define SL_BACKEND_MODULE_SYMBOL "sl_backend_module"
typedef const sl_backend *(*sl_backend_module_fn)(uint32_t abi);

#endif
