/* SPDX-License-Identifier: Apache-2.0 */
/* The cases of a list, and the matrices of one. */
#ifndef SL_BENCH_CASES_H
#define SL_BENCH_CASES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* forward Y = W X; dx dX = W^T dY; dw dW = dY X^T on W's pattern. */
typedef enum bench_op { FORWARD, DX, DW, OPS } bench_op;
/* UNIFORM: nonzeros anywhere. POWER: row r's share falls as 1 / sqrt(r + 1). PRUNED: the largest of a normal matrix
 * whose rows and columns differ in scale, as those of a trained layer do. */
typedef enum bench_pattern { UNIFORM, POWER, PRUNED, PATTERNS } bench_pattern;
extern const char *const op_names[], *const pattern_names[];

typedef struct bench_case {
	bench_op op;
	bench_pattern pattern;
	int64_t out, in, batch;
	double density;
} bench_case;

/* Reads a list: a line is "op OUTxIN batch density pattern", each of them one or several with commas between, which
 * stand for every combination. Ends the program on a line that is none. */
int cases_read(const char *path, bench_case *cases, int most);
/* The line again; what names the case in a file of results. */
void case_name(const bench_case *c, char *text, size_t size);

/* Whole matrices, row-major, f32; W as CSR, as the CSR of its transpose, and dense. */
typedef struct operands {
	bench_case c;
	int64_t nnz;
	int32_t *offsets, *columns, *turned_offsets, *turned_columns;
	float *values, *turned_values, *w, *turned_w; /* [out, in], [in, out] */
	float *x, *y;                                 /* [in, batch], [out, batch] */
	float *turned_x, *turned_y;                   /* [batch, in], [batch, out] */
} operands;

void operands_make(operands *o, const bench_case *c);
void operands_free(operands *o);
/* Elements of the result: out * batch, in * batch, or nnz. */
int64_t operands_result(const operands *o);
/* Some hundred elements of a result against double: forward [out, batch], dx [in, batch], dw as W's values. Each must
 * lie within (8 + products) eps of the sum of magnitudes. */
bool operands_check(const operands *o, const float *result);

/* `count` floats aligned to 64 bytes. */
float *bench_floats(int64_t count);
/* Turned copy of a [rows, cols] matrix. */
void bench_turn(const float *from, int64_t rows, int64_t cols, float *to);

#endif
