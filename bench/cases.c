/* SPDX-License-Identifier: Apache-2.0 */
#include "cases.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

const char *const op_names[] = {"forward", "dx", "dw"}, *const pattern_names[] = {"uniform", "power", "pruned"};

static int lookup(const char *name, const char *const *names, int count) {
	for (int i = 0; i < count; i++)
		if (!strcmp(name, names[i]))
			return i;
	return -1;
}

/* The parts of a list like "1,8,32". */
static int split(char *text, char **parts, int most) {
	int count = 0;
	char *save;
	for (char *part = strtok_r(text, ",", &save); part && count < most; part = strtok_r(NULL, ",", &save))
		parts[count++] = part;
	return count;
}

/* One choice of a line's fields. */
static bool parse(char *const *field, bench_case *c) {
	long long out, in, batch;
	int op = lookup(field[0], op_names, OPS), pattern = lookup(field[4], pattern_names, PATTERNS);
	if (sscanf(field[1], "%lldx%lld", &out, &in) != 2 || sscanf(field[2], "%lld", &batch) != 1 ||
		sscanf(field[3], "%lf", &c->density) != 1 || op < 0 || pattern < 0)
		return false;
	c->op = (bench_op)op, c->pattern = (bench_pattern)pattern;
	c->out = out, c->in = in, c->batch = batch;
	return out > 0 && in > 0 && batch > 0 && c->density > 0 && c->density <= 1 && out * in <= INT32_MAX;
}

int cases_read(const char *path, bench_case *cases, int most) {
	enum { FIELDS = 5, CHOICES = 32 };
	static const int order[] = {1, 2, 3, 4, 0}; /* ops turn fastest: they share their matrices */
	FILE *file = fopen(path, "r");
	char line[512], whole[512], text[FIELDS][200];
	int count = 0;
	bench_need(file != NULL, path, "cannot be opened");
	while (fgets(line, sizeof line, file)) {
		char *choices[FIELDS][CHOICES], *field[FIELDS];
		int sizes[FIELDS], total = 1;
		if (line[0] == '#' || line[0] == '\n')
			continue;
		strcpy(whole, line);
		bench_need(sscanf(line, "%199s %199s %199s %199s %199s", text[0], text[1], text[2], text[3], text[4]) == FIELDS,
				   path, whole);
		for (int f = 0; f < FIELDS; f++)
			total *= sizes[f] = split(text[f], choices[f], CHOICES);
		for (int i = 0; i < total; i++) {
			int rest = i;
			for (int f = FIELDS - 1; f >= 0; f--) {
				field[order[f]] = choices[order[f]][rest % sizes[order[f]]];
				rest /= sizes[order[f]];
			}
			bench_need(count < most && parse(field, &cases[count]), path, whole);
			count++;
		}
	}
	fclose(file);
	return count;
}

void case_name(const bench_case *c, char *text, size_t size) {
	snprintf(text, size, "%s %lldx%lld %lld %g %s", op_names[c->op], (long long)c->out, (long long)c->in,
			 (long long)c->batch, c->density, pattern_names[c->pattern]);
}

float *bench_floats(int64_t count) {
	float *x = aligned_alloc(64, ((size_t)count * sizeof *x + 63) / 64 * 64 + 64);
	bench_need(x != NULL, "memory", "too little for this case");
	return x;
}

void bench_turn(const float *from, int64_t rows, int64_t cols, float *to) {
	for (int64_t r = 0; r < rows; r++)
		for (int64_t c = 0; c < cols; c++)
			to[c * rows + r] = from[r * cols + c];
}

static double random_unit(uint64_t *state) {
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (double)(*state >> 11) / 9007199254740992.0;
}

static double random_normal(uint64_t *state) {
	return sqrt(-2 * log(1 - random_unit(state))) * cos(6.283185307179586 * random_unit(state));
}

/* Numbers of both signs, none of them small. */
static void fill(float *x, int64_t count, uint64_t seed) {
	for (int64_t i = 0; i < count; i++) {
		double u = 2 * random_unit(&seed) - 1;
		x[i] = (float)(u + (u < 0 ? -0.1 : 0.1));
	}
}

/* The k-th smallest; reorders. */
static float select_kth(float *x, int64_t count, int64_t k) {
	int64_t low = 0, high = count - 1;
	while (low < high) {
		float pivot = x[low + (high - low) / 2];
		int64_t i = low - 1, j = high + 1;
		for (;;) {
			while (x[++i] < pivot)
				;
			while (x[--j] > pivot)
				;
			if (i >= j)
				break;
			float swap = x[i];
			x[i] = x[j], x[j] = swap;
		}
		if (k <= j)
			high = j;
		else
			low = j + 1;
	}
	return x[k];
}

/* Magnitudes of a matrix whose rows and columns have scales of their own, log-normal, and the threshold that the wanted
 * share of them is above. */
static float *magnitudes(const bench_case *c, float *threshold) {
	uint64_t seed = 11;
	int64_t count = c->out * c->in;
	float *size = bench_floats(count), *sorted = bench_floats(count), *scale = bench_floats(c->in);
	for (int64_t j = 0; j < c->in; j++)
		scale[j] = (float)exp(0.5 * random_normal(&seed));
	for (int64_t r = 0; r < c->out; r++) {
		double row = exp(0.5 * random_normal(&seed));
		for (int64_t j = 0; j < c->in; j++)
			size[r * c->in + j] = (float)fabs(row * scale[j] * random_normal(&seed));
	}
	memcpy(sorted, size, (size_t)count * sizeof *size);
	int64_t cut = count - llround(c->density * (double)count);
	*threshold = select_kth(sorted, count, cut < count ? cut : count - 1);
	free(sorted), free(scale);
	return size;
}

static void make_pattern(operands *o) {
	const bench_case *c = &o->c;
	int32_t *columns = malloc((size_t)(c->out * c->in) * sizeof *columns);
	o->offsets = malloc(((size_t)c->out + 1) * sizeof *o->offsets);
	bench_need(columns && o->offsets && c->out * c->in <= INT32_MAX, "memory", "too little for this case");
	uint64_t seed = 7;
	double sum = 0;
	float threshold = 0, *size = c->pattern == PRUNED ? magnitudes(c, &threshold) : NULL;
	for (int64_t r = 0; r < c->out; r++)
		sum += 1 / sqrt((double)r + 1);
	o->nnz = o->offsets[0] = 0;
	for (int64_t r = 0; r < c->out; r++) {
		double p = c->pattern == POWER ? c->density * (double)c->out / sqrt((double)r + 1) / sum : c->density;
		for (int64_t j = 0; j < c->in; j++)
			if (size ? size[r * c->in + j] >= threshold : random_unit(&seed) < p)
				columns[o->nnz++] = (int32_t)j;
		o->offsets[r + 1] = (int32_t)o->nnz;
	}
	free(size);
	o->columns = realloc(columns, ((size_t)o->nnz + 1) * sizeof *columns);
	bench_need(o->columns != NULL, "memory", "too little for this case");
}

static void turn_pattern(operands *o) {
	const bench_case *c = &o->c;
	o->turned_offsets = calloc((size_t)c->in + 2, sizeof *o->turned_offsets);
	o->turned_columns = malloc(((size_t)o->nnz + 1) * sizeof *o->turned_columns);
	o->turned_values = bench_floats(o->nnz);
	bench_need(o->turned_offsets && o->turned_columns, "memory", "too little for this case");
	int32_t *next = o->turned_offsets + 1;
	for (int64_t k = 0; k < o->nnz; k++)
		next[o->columns[k] + 1]++;
	for (int64_t j = 0; j < c->in; j++)
		next[j + 1] += next[j];
	for (int64_t r = 0; r < c->out; r++)
		for (int64_t k = o->offsets[r]; k < o->offsets[r + 1]; k++) {
			int32_t to = next[o->columns[k]]++;
			o->turned_columns[to] = (int32_t)r;
			o->turned_values[to] = o->values[k];
		}
}

void operands_make(operands *o, const bench_case *c) {
	*o = (operands){.c = *c};
	make_pattern(o);
	o->values = bench_floats(o->nnz);
	fill(o->values, o->nnz, 1);
	turn_pattern(o);
	o->w = bench_floats(c->out * c->in);
	memset(o->w, 0, (size_t)(c->out * c->in) * sizeof *o->w);
	for (int64_t r = 0; r < c->out; r++)
		for (int64_t k = o->offsets[r]; k < o->offsets[r + 1]; k++)
			o->w[r * c->in + o->columns[k]] = o->values[k];
	o->turned_w = bench_floats(c->out * c->in);
	bench_turn(o->w, c->out, c->in, o->turned_w);
	o->x = bench_floats(c->in * c->batch), o->turned_x = bench_floats(c->in * c->batch);
	o->y = bench_floats(c->out * c->batch), o->turned_y = bench_floats(c->out * c->batch);
	fill(o->x, c->in * c->batch, 2);
	fill(o->y, c->out * c->batch, 3);
	bench_turn(o->x, c->in, c->batch, o->turned_x);
	bench_turn(o->y, c->out, c->batch, o->turned_y);
}

void operands_free(operands *o) {
	free(o->offsets), free(o->columns), free(o->values);
	free(o->turned_offsets), free(o->turned_columns), free(o->turned_values);
	free(o->w), free(o->turned_w), free(o->x), free(o->y), free(o->turned_x), free(o->turned_y);
}

int64_t operands_result(const operands *o) {
	return o->c.op == FORWARD ? o->c.out * o->c.batch : o->c.op == DX ? o->c.in * o->c.batch : o->nnz;
}

/* Row r of a CSR times column j of a [., batch] matrix. */
static double row_product(const int32_t *offsets, const int32_t *columns, const float *values, int64_t r,
						  const float *m, int64_t batch, int64_t j, double *size) {
	double sum = 0;
	*size = 0;
	for (int64_t k = offsets[r]; k < offsets[r + 1]; k++) {
		double p = (double)values[k] * m[columns[k] * batch + j];
		sum += p, *size += fabs(p);
	}
	return sum;
}

bool operands_check(const operands *o, const float *result) {
	const bench_case *c = &o->c;
	uint64_t seed = 3;
	int64_t count = operands_result(o);
	for (int i = 0; i < 300 && count; i++) {
		int64_t e = (int64_t)(random_unit(&seed) * (double)count);
		double sum, size = 0, products;
		if (c->op == DW) {
			int64_t r = 0;
			while (o->offsets[r + 1] <= e)
				r++;
			sum = 0, products = (double)c->batch;
			for (int64_t j = 0; j < c->batch; j++) {
				double p = (double)o->y[r * c->batch + j] * o->x[o->columns[e] * c->batch + j];
				sum += p, size += fabs(p);
			}
		} else {
			int64_t r = e / c->batch, j = e % c->batch;
			const int32_t *offsets = c->op == DX ? o->turned_offsets : o->offsets;
			products = offsets[r + 1] - offsets[r];
			sum = c->op == DX ? row_product(offsets, o->turned_columns, o->turned_values, r, o->y, c->batch, j, &size)
							  : row_product(offsets, o->columns, o->values, r, o->x, c->batch, j, &size);
		}
		if (!(fabs(result[e] - sum) <= (8 + products) * FLT_EPSILON * size))
			return false;
	}
	return true;
}
