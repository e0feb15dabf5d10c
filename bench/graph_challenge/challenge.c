/* SPDX-License-Identifier: Apache-2.0 */
#include "challenge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SIDE = 28 };

static double seconds(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Digits of base `radix` that name `nodes` nodes; 0: it is no power of it. */
static int digits_of(int64_t nodes, int64_t radix) {
	int digits = 0;
	for (; radix > 1 && nodes > 1 && nodes % radix == 0; digits++)
		nodes /= radix;
	return nodes == 1 && digits <= CHALLENGE_PERIOD ? digits : 0;
}

/* A mixed-radix topology of equal radices on N' nodes: layer i joins a node with those at distances 0, r^i, 2 r^i ...
 * on a circle of N'. Its Kronecker product with a full block of `width` gives N' * width neurons of r * width
 * connections. The narrowest blocks that come to 32 are taken. */
static int64_t block_width(int64_t neurons, int *digits) {
	for (int64_t width = 1; width < CHALLENGE_DEGREE; width *= 2) {
		*digits = neurons % width ? 0 : digits_of(neurons / width, CHALLENGE_DEGREE / width);
		if (*digits)
			return width;
	}
	return 0;
}

static int ascending(const void *a, const void *b) {
	return *(const int32_t *)a - *(const int32_t *)b;
}

static void fill_layer(challenge *net, int layer, int64_t width, int64_t place) {
	int64_t nodes = net->neurons / width, radix = CHALLENGE_DEGREE / width;
	for (int64_t n = 0; n < net->neurons; n++) {
		int32_t *row = net->columns[layer] + n * CHALLENGE_DEGREE;
		for (int64_t j = 0; j < radix; j++)
			for (int64_t k = 0; k < width; k++)
				row[j * width + k] = (int32_t)((n / width + j * place) % nodes * width + k);
		qsort(row, CHALLENGE_DEGREE, sizeof *row, ascending);
		net->offsets[layer][n + 1] = (int32_t)((n + 1) * CHALLENGE_DEGREE);
	}
	net->offsets[layer][0] = 0;
}

bool challenge_make(challenge *net, int64_t neurons, int64_t layers) {
	*net = (challenge){.neurons = neurons, .layers = layers};
	int64_t width = block_width(neurons, &net->period), place = 1, nnz = neurons * CHALLENGE_DEGREE;
	net->bias = neurons <= 1024 ? -0.3f : neurons <= 4096 ? -0.35f : neurons <= 16384 ? -0.4f : -0.45f;
	if (!width || nnz > INT32_MAX)
		return false;
	net->values = malloc((size_t)nnz * sizeof *net->values);
	for (int64_t i = 0; net->values && i < nnz; i++)
		net->values[i] = 1.0f / 16;
	for (int i = 0; i < net->period; i++, place *= CHALLENGE_DEGREE / width) {
		net->offsets[i] = malloc((size_t)(neurons + 1) * sizeof **net->offsets);
		net->columns[i] = malloc((size_t)nnz * sizeof **net->columns);
		if (!net->values || !net->offsets[i] || !net->columns[i]) {
			challenge_free(net);
			return false;
		}
		fill_layer(net, i, width, place);
	}
	return true;
}

void challenge_free(challenge *net) {
	for (int i = 0; i < CHALLENGE_PERIOD; i++) {
		free(net->offsets[i]);
		free(net->columns[i]);
	}
	free(net->values);
	*net = (challenge){0};
}

/* The data set's pictures, unpacked by gzip, so that a machine with a GPU needs no library for it. */
static unsigned char *read_pictures(const char *folder, int64_t *count, char *why, size_t size) {
	char command[512];
	unsigned char head[16];
	const char *in = folder ? folder : "/usr/share/datasets/fashion-mnist";
	snprintf(command, sizeof command, "gzip -dc '%s/train-images-idx3-ubyte.gz' 2>/dev/null", in);
	snprintf(why, size, "no pictures in %s: install dataset-fashion-mnist", in);
	FILE *f = popen(command, "r");
	unsigned char *pictures = NULL;
	if (f && fread(head, 1, sizeof head, f) == sizeof head && head[2] == 8 && head[3] == 3) {
		*count = (int64_t)head[4] << 24 | head[5] << 16 | head[6] << 8 | head[7];
		size_t bytes = (size_t)*count * SIDE * SIDE;
		pictures = head[11] == SIDE && head[15] == SIDE ? malloc(bytes) : NULL;
		if (pictures && fread(pictures, 1, bytes, f) != bytes) {
			free(pictures);
			pictures = NULL;
		}
	}
	if (f)
		pclose(f);
	return pictures;
}

float *challenge_inputs(const char *folder, int64_t neurons, int64_t count, char *why, size_t size) {
	int64_t have = 0, side = 1;
	while (side * side < neurons)
		side++;
	unsigned char *pictures = read_pictures(folder, &have, why, size);
	float *inputs = pictures ? malloc((size_t)(count * neurons) * sizeof *inputs) : NULL;
	for (int64_t i = 0; inputs && i < count; i++)
		for (int64_t n = 0; n < neurons; n++) {
			const unsigned char *picture = pictures + i % have * SIDE * SIDE;
			inputs[i * neurons + n] = picture[n / side * SIDE / side * SIDE + n % side * SIDE / side] >= 128;
		}
	free(pictures);
	return inputs;
}

void challenge_reference(const challenge *net, double *values, double *scratch) {
	for (int64_t l = 0; l < net->layers; l++) {
		const int32_t *columns = net->columns[l % net->period];
		for (int64_t n = 0; n < net->neurons; n++) {
			double sum = net->bias;
			for (int k = 0; k < CHALLENGE_DEGREE; k++)
				sum += values[columns[n * CHALLENGE_DEGREE + k]] / 16;
			scratch[n] = sum < 0 ? 0 : sum > 32 ? 32 : sum;
		}
		memcpy(values, scratch, (size_t)net->neurons * sizeof *values);
	}
}

/* A network and two panels of activations in a backend's memory. */
typedef struct machine {
	const challenge *net;
	const sl_backend *backend;
	void *device;
	int64_t batch, width;
	size_t bytes; /* of the panels of a batch */
	void *offsets[CHALLENGE_PERIOD], *columns[CHALLENGE_PERIOD], *values, *bias, *workspace, *panel[2];
	size_t workspace_bytes;
	sl_op_plan plans[CHALLENGE_PERIOD];
	int planned;
	float *host; /* as many panels, of the host */
} machine;

static sl_status upload(machine *m, void **to, const void *from, size_t bytes) {
	SL_TRY(m->backend->allocate(m->device, bytes, SL_MEMORY_DEVICE, to));
	return from ? m->backend->copy(m->device, *to, SL_MEMORY_DEVICE, from, SL_MEMORY_HOST, bytes) : SL_OK;
}

static sl_status make_plan(machine *m, int i, const char *candidate) {
	const challenge *net = m->net;
	int64_t n = net->neurons;
	sl_op_desc desc = {.kind = SL_OP_SPMM,
					   .a = {n, n, 0, SL_F32, SL_ROW_MAJOR},
					   .b = {n, m->batch, m->width, SL_F32, SL_COL_PANELS},
					   .c = {n, m->batch, m->width, SL_F32, SL_COL_PANELS},
					   .activation = SL_CLIPPED_RELU,
					   .activation_parameter = 32,
					   .bias = true,
					   .candidate = candidate};
	sl_pattern_arrays host = {n, n, n * CHALLENGE_DEGREE, net->offsets[i], SL_I32, net->columns[i]};
	desc.sparse.host = desc.sparse.arrays = host;
	desc.sparse.arrays.row_offsets = m->offsets[i];
	desc.sparse.arrays.col_indices = m->columns[i];
	SL_TRY(m->backend->plan(m->device, &desc, &m->plans[i]));
	m->planned = i + 1;
	if (m->plans[i].workspace > m->workspace_bytes)
		m->workspace_bytes = m->plans[i].workspace;
	return SL_OK;
}

static sl_status set_up(machine *m, const char *candidate) {
	const challenge *net = m->net;
	size_t offset_bytes = (size_t)(net->neurons + 1) * 4, entry_bytes = (size_t)net->neurons * CHALLENGE_DEGREE * 4;
	float *bias = malloc((size_t)net->neurons * sizeof *bias);
	m->host = malloc(m->bytes);
	sl_status status = bias && m->host ? SL_OK : SL_ERR_MEMORY;
	for (int64_t i = 0; bias && i < net->neurons; i++)
		bias[i] = net->bias;
	if (status == SL_OK)
		status = upload(m, &m->values, net->values, entry_bytes);
	if (status == SL_OK)
		status = upload(m, &m->bias, bias, (size_t)net->neurons * sizeof *bias);
	for (int i = 0; i < 2 && status == SL_OK; i++)
		status = upload(m, &m->panel[i], NULL, m->bytes);
	for (int i = 0; i < net->period && status == SL_OK; i++) {
		status = upload(m, &m->offsets[i], net->offsets[i], offset_bytes);
		if (status == SL_OK)
			status = upload(m, &m->columns[i], net->columns[i], entry_bytes);
		if (status == SL_OK)
			status = make_plan(m, i, candidate);
	}
	if (status == SL_OK)
		status = upload(m, &m->workspace, NULL, m->workspace_bytes + 64);
	if (status == SL_OK)
		status = m->backend->synchronize(m->device);
	free(bias);
	return status;
}

static void release(machine *m, void *pointer, size_t bytes) {
	if (pointer)
		m->backend->release(m->device, pointer, bytes, SL_MEMORY_DEVICE);
}

static void tear_down(machine *m) {
	size_t entry_bytes = (size_t)m->net->neurons * CHALLENGE_DEGREE * 4;
	for (int i = 0; i < m->planned; i++)
		m->backend->destroy(m->device, &m->plans[i]);
	for (int i = 0; i < CHALLENGE_PERIOD; i++) {
		release(m, m->offsets[i], (size_t)(m->net->neurons + 1) * 4);
		release(m, m->columns[i], entry_bytes);
	}
	release(m, m->values, entry_bytes);
	release(m, m->bias, (size_t)m->net->neurons * 4);
	release(m, m->workspace, m->workspace_bytes + 64);
	release(m, m->panel[0], m->bytes);
	release(m, m->panel[1], m->bytes);
	free(m->host);
}

static float *cell(const machine *m, int64_t row, int64_t col) {
	return m->host + col / m->width * m->net->neurons * m->width + row * m->width + col % m->width;
}

static sl_status put(machine *m, void *panel) {
	SL_TRY(m->backend->copy(m->device, panel, SL_MEMORY_DEVICE, m->host, SL_MEMORY_HOST, m->bytes));
	return m->backend->synchronize(m->device);
}

static sl_status get(machine *m, const void *panel) {
	SL_TRY(m->backend->copy(m->device, m->host, SL_MEMORY_HOST, panel, SL_MEMORY_DEVICE, m->bytes));
	return m->backend->synchronize(m->device);
}

/* Whether each column of the host's panels has a nonzero. */
static int64_t find_live(const machine *m, int64_t columns, bool *live) {
	int64_t count = 0;
	memset(live, 0, (size_t)columns);
	for (int64_t c0 = 0; c0 < columns; c0 += m->width)
		for (int64_t n = 0; n < m->net->neurons; n++)
			for (int64_t c = c0; c < columns && c < c0 + m->width; c++)
				live[c] |= *cell(m, n, c) != 0;
	for (int64_t c = 0; c < columns; c++)
		count += live[c];
	return count;
}

/* Move what is live to the front; `of[c]` is the input that column c holds. */
static void squeeze(const machine *m, int64_t columns, const bool *live, int64_t *of) {
	int64_t to = 0;
	for (int64_t c = 0; c < columns; c++) {
		if (!live[c])
			continue;
		for (int64_t n = 0; n < m->net->neurons && to != c; n++)
			*cell(m, n, to) = *cell(m, n, c);
		of[to++] = of[c];
	}
	int64_t padded = (columns + m->width - 1) / m->width * m->width;
	for (int64_t c = to; c < padded; c++)
		for (int64_t n = 0; n < m->net->neurons; n++)
			*cell(m, n, c) = 0;
}

static sl_status run_layer(machine *m, int64_t layer, int64_t columns) {
	sl_dense from = {.data = m->panel[layer % 2],
					 .dtype = SL_F32,
					 .order = SL_COL_PANELS,
					 .device = m->backend->device,
					 .rows = m->net->neurons,
					 .cols = columns,
					 .ld = m->width};
	sl_dense to = from;
	to.data = m->panel[1 - layer % 2];
	sl_op_args args = {.alpha = 1, .b = from, .c = to, .values = m->values, .bias = m->bias, .workspace = m->workspace};
	return m->backend->execute(m->device, &m->plans[layer % m->net->period], &args);
}

static sl_status run_batch(machine *m, const float *inputs, int64_t count, int64_t every, bool *live, int64_t *of,
						   float *outputs, challenge_result *r) {
	const challenge *net = m->net;
	int64_t columns = count;
	memset(m->host, 0, m->bytes);
	for (int64_t c = 0; c < count; c++) {
		of[c] = c;
		for (int64_t n = 0; n < net->neurons; n++)
			*cell(m, n, c) = inputs[c * net->neurons + n];
	}
	SL_TRY(put(m, m->panel[0]));
	double began = seconds();
	for (int64_t l = 0; l < net->layers && columns; l++) {
		SL_TRY(run_layer(m, l, columns));
		r->live += (double)columns;
		if (!every || (l + 1) % every || l + 1 == net->layers)
			continue;
		SL_TRY(get(m, m->panel[(l + 1) % 2]));
		int64_t left = find_live(m, columns, live);
		if (left < columns) {
			squeeze(m, columns, live, of);
			columns = left;
			SL_TRY(put(m, m->panel[(l + 1) % 2]));
		}
	}
	SL_TRY(m->backend->synchronize(m->device));
	r->seconds += seconds() - began;
	if (outputs)
		memset(outputs, 0, (size_t)(count * net->neurons) * sizeof *outputs);
	if (!columns)
		return SL_OK;
	SL_TRY(get(m, m->panel[net->layers % 2]));
	r->positive += find_live(m, columns, live);
	for (int64_t c = 0; outputs && c < columns; c++)
		for (int64_t n = 0; n < net->neurons; n++)
			outputs[of[c] * net->neurons + n] = *cell(m, n, c);
	return SL_OK;
}

sl_status challenge_run(const challenge *net, const sl_backend *backend, void *device, const char *candidate,
						const float *inputs, int64_t count, int64_t batch, int64_t every, float *outputs,
						challenge_result *result) {
	machine m = {.net = net, .backend = backend, .device = device, .batch = batch};
	*result =
		(challenge_result){.edges = (double)net->neurons * CHALLENGE_DEGREE * (double)net->layers * (double)count};
	m.width = backend->panel_width(device, SL_F32, batch, true);
	m.bytes = (size_t)((batch + m.width - 1) / m.width * m.width * net->neurons) * sizeof(float);
	bool *live = malloc((size_t)batch);
	int64_t *of = malloc((size_t)batch * sizeof *of);
	sl_status status = live && of ? set_up(&m, candidate) : SL_ERR_MEMORY;
	for (int64_t first = 0; first < count && status == SL_OK; first += batch) {
		int64_t n = count - first < batch ? count - first : batch;
		status = run_batch(&m, inputs + first * net->neurons, n, every, live, of,
						   outputs ? outputs + first * net->neurons : NULL, result);
	}
	result->live /= (double)net->layers * (double)count;
	tear_down(&m);
	free(live);
	free(of);
	return status;
}
