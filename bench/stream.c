/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streaming a matrix that is larger than its budget, each side after its pages were dropped from the cache.
 *   bench-stream make FILE ROWS COLS ENTRIES_OF_A_ROW
 *   bench-stream transfer FILE [RUNS]      batch 32 against a bare loop of reads of the same blocks
 *   bench-stream step FILE FOLDER [RUNS]   a training step with Adam against a bare loop of reads and writes
 *   bench-stream compute FILE [RUNS]       batch 1024 against the product in memory
 *   bench-stream forward FILE BATCH [RUNS] seconds, for bench/stream_scipy.py
 *   bench-stream timeline FILE BATCH       when each stage of the first chunks ran, as text
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <sparselayer/sparselayer.h>

enum { BUDGET = 256 << 20, BLOCK = 8 << 20 };

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *need(void *p) {
	if (!p) {
		fprintf(stderr, "bench-stream: no memory\n");
		exit(1);
	}
	return p;
}

#define RUN(context, call)                                                                                             \
	do {                                                                                                               \
		sl_status run_status_ = (call);                                                                                \
		if (run_status_ != SL_OK) {                                                                                    \
			fprintf(stderr, "bench-stream: %s: %s\n", sl_status_name(run_status_),                                     \
					(context) ? sl_context_message(context) : "");                                                     \
			exit(1);                                                                                                   \
		}                                                                                                              \
	} while (0)

static void evict(const char *path) {
	int fd = open(path, O_RDONLY);
	if (fd >= 0) {
		(void)!fdatasync(fd);
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		close(fd);
	}
}

static int by_size(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}
static double median(double *t, int n) {
	qsort(t, (size_t)n, sizeof *t, by_size);
	return n % 2 ? t[n / 2] : (t[n / 2 - 1] + t[n / 2]) / 2;
}

/* "VmHWM" or "VmRSS", in bytes. */
static double memory_of(const char *what) {
	char line[256];
	double kib = 0;
	FILE *f = fopen("/proc/self/status", "r");
	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, what, strlen(what)))
			kib = atof(line + strlen(what) + 1);
	if (f)
		fclose(f);
	return 1024 * kib;
}
static void forget_peak(void) {
	int fd = open("/proc/self/clear_refs", O_WRONLY);
	if (fd >= 0) {
		(void)!write(fd, "5", 1);
		close(fd);
	}
}

static uint64_t state = 1;
static uint32_t draw(void) {
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(state >> 33);
}

/* Entries of a row: `each` on average, up to a sixteenth more or less. Rows of one length, a power of two, would begin
 * at lines of the cache in memory and not in the file. */
static int64_t entries_of(int64_t row, int64_t each) {
	return each + (row * 7 % 129 - 64) * each / 1024;
}

/* Each row has one entry at random in each of as many equal stretches of its columns. */
static int make(const char *path, int64_t rows, int64_t cols, int64_t each) {
	char header[512];
	int64_t nnz = 0;
	for (int64_t r = 0; r < rows; r++)
		nnz += entries_of(r, each);
	long long offsets = 8 * (rows + 1), columns = 4 * nnz;
	int n = snprintf(
		header, sizeof header,
		"{\"__metadata__\":{\"format\":\"sparselayer.csr\",\"version\":\"1\",\"rows\":\"%lld\",\"cols\":\"%lld\"},"
		"\"matrix.row_offsets\":{\"dtype\":\"I64\",\"shape\":[%lld],\"data_offsets\":[0,%lld]},"
		"\"matrix.col_indices\":{\"dtype\":\"I32\",\"shape\":[%lld],\"data_offsets\":[%lld,%lld]},"
		"\"matrix.values\":{\"dtype\":\"F32\",\"shape\":[%lld],\"data_offsets\":[%lld,%lld]}}",
		(long long)rows, (long long)cols, (long long)rows + 1, offsets, (long long)nnz, offsets, offsets + columns,
		(long long)nnz, offsets + columns, offsets + 2 * columns);
	while (n % 8)
		header[n++] = ' ';
	FILE *f = fopen(path, "wb");
	uint64_t length = (uint64_t)n;
	uint32_t *row = need(malloc((size_t)each * 5));
	if (!f || cols < 2 * each)
		return 1;
	fwrite(&length, 8, 1, f);
	fwrite(header, 1, (size_t)n, f);
	for (int64_t r = 0, at = 0; r <= rows; at += entries_of(r++, each))
		fwrite(&at, 8, 1, f);
	for (int64_t r = 0; r < rows; r++) {
		int64_t own = entries_of(r, each), stretch = cols / own;
		for (int64_t k = 0; k < own; k++)
			row[k] = (uint32_t)(k * stretch + draw() % stretch);
		fwrite(row, 4, (size_t)own, f);
	}
	for (int64_t r = 0; r < rows; r++) {
		int64_t own = entries_of(r, each);
		for (int64_t k = 0; k < own; k++)
			((float *)(void *)row)[k] = (float)draw() * 0x1p-30f - 1;
		fwrite(row, 4, (size_t)own, f);
	}
	free(row);
	int bad = fflush(f) || fsync(fileno(f));
	return fclose(f) || bad;
}

static sl_context *open_context(size_t budget) {
	sl_context *context = NULL;
	char why[256] = "";
	sl_context_options o = {SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .memory_budget = budget, .error = why,
							.error_size = sizeof why};
	if (sl_context_create(&context, &o) != SL_OK) {
		fprintf(stderr, "bench-stream: %s\n", why);
		exit(1);
	}
	return context;
}

/* As the library's own activations lie: at a line. */
static float *fill(int64_t count) {
	float *p = need(aligned_alloc(64, ((size_t)count * sizeof *p + 63) / 64 * 64));
	for (int64_t i = 0; i < count; i++)
		p[i] = (float)draw() * 0x1p-30f - 1;
	return p;
}

/* [features, batch] in panels, as a layer keeps its activations, or what a caller has: [batch, features] row-major. */
static sl_dense activations(int64_t features, int64_t batch, bool panels) {
	int64_t width = batch <= 8    ? 8
					: batch <= 16 ? 16
					: batch <= 32 ? 32
								  : 64,
			padded = (batch + width - 1) / width * width;
	sl_dense d = sl_dense_transposed(sl_dense_view(fill(features * padded), SL_F32, batch, features));
	if (panels) {
		d.order = SL_COL_PANELS;
		d.ld = width;
	}
	return d;
}

/* What a layer's forward is given: X [batch, cols], Y [batch, rows]. */
typedef struct forward {
	sl_context *context;
	sl_source *source;
	sl_source_info info;
	sl_dense x, y;
	int64_t batch;
} forward;

static forward open_forward(const char *path, int64_t batch, size_t budget, bool panels) {
	forward f = {.context = open_context(budget), .batch = batch, .info = {.struct_size = sizeof f.info}};
	RUN(f.context, sl_source_open(&f.source, f.context, path, NULL));
	RUN(f.context, sl_source_get_info(f.context, f.source, &f.info));
	f.x = activations(f.info.cols, batch, panels);
	f.y = activations(f.info.rows, batch, panels);
	return f;
}

static double run_forward(forward *f, const char *path, sl_stream_report *report) {
	*report = (sl_stream_report){.struct_size = sizeof *report};
	evict(path);
	double t = now();
	RUN(f->context, sl_stream_spmm(f->context, SL_NO_TRANSPOSE, 1, f->source, &f->x, 0, &f->y, NULL, NULL, report));
	return now() - t;
}

/* A bare loop: blocks of one file into a buffer, one after the other, past the cache. */
static double bare_read(const char *path, int64_t bytes, char *buffer) {
	int fd = open(path, O_RDONLY | O_DIRECT);
	if (fd < 0)
		fd = open(path, O_RDONLY);
	evict(path);
	double t = now();
	for (int64_t at = 0; at < bytes; at += BLOCK)
		if (pread(fd, buffer, BLOCK, at) < 0) {
			perror(path);
			exit(1);
		}
	t = now() - t;
	close(fd);
	return t;
}

static int transfer(const char *path, int runs) {
	double *ours = need(malloc((size_t)runs * 8)), *bare = need(malloc((size_t)runs * 8)), peak = 0;
	char *buffer = need(aligned_alloc(4096, BLOCK));
	sl_stream_report report;
	forward f = open_forward(path, 32, BUDGET, true);
	memset(buffer, 1, BLOCK);
	for (int i = 0; i < runs; i++) {
		forget_peak();
		double start = memory_of("VmRSS:");
		ours[i] = run_forward(&f, path, &report);
		double over = memory_of("VmHWM:") - start - BUDGET;
		peak = !i || over > peak ? over : peak;
		bare[i] = bare_read(path, report.bytes_read, buffer);
		ours[i] = (double)report.bytes_read / ours[i];
		bare[i] = (double)report.bytes_read / bare[i];
		printf("forward, batch 32: %.0f MB/s, bare reads %.0f MB/s; %lld chunks of %lld entries, waited %.2f s of "
			   "%.2f, reader %.2f\n",
			   ours[i] / 1e6, bare[i] / 1e6, (long long)report.chunks, (long long)report.chunk_entries,
			   report.wait_seconds, report.seconds, report.read_seconds);
	}
	printf("RESULT stream.peak_over_budget_mib %.1f\n", peak / (1 << 20));
	printf("RESULT stream.transfer_bound %.3f\n", median(ours, runs) / median(bare, runs));
	return 0;
}

/* ---- a training step ---- */

typedef struct copier {
	const char *path;
	int64_t bytes;
	bool writes;
	char *buffer;
} copier;

static void *copy_loop(void *argument) {
	copier *c = argument;
	int fd = open(c->path, (c->writes ? O_RDWR : O_RDONLY) | O_DIRECT);
	for (int64_t at = 0; at < c->bytes && fd >= 0; at += BLOCK)
		if ((c->writes ? pwrite(fd, c->buffer, BLOCK, at) : pread(fd, c->buffer, BLOCK, at)) < 0)
			perror(c->path);
	if (c->writes)
		(void)!fdatasync(fd);
	close(fd);
	return NULL;
}

/* Read one file and write another at once, as much of each as the step did. */
static double bare_copy(const char *from, const char *to, int64_t read, int64_t written, char *buffers) {
	copier both[2] = {{from, read, false, buffers}, {to, written, true, buffers + BLOCK}};
	pthread_t threads[2];
	double t = now();
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, copy_loop, &both[i]);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	return now() - t;
}

static int step(const char *path, const char *folder, int runs) {
	double *ours = need(malloc((size_t)runs * 8)), *bare = need(malloc((size_t)runs * 8)), peak = 0;
	char *buffers = need(aligned_alloc(4096, 2 * (size_t)BLOCK)), file[4096], spare[4096];
	forward f = open_forward(path, 32, BUDGET, true);
	sl_store *store;
	sl_store_info info = {.struct_size = sizeof info};
	if (sl_store_open(&store, f.context, folder, SL_DURABLE_STEP) != SL_OK) {
		RUN(f.context, sl_store_create(f.context, folder, f.source, 2));
		RUN(f.context, sl_store_open(&store, f.context, folder, SL_DURABLE_STEP));
	}
	RUN(f.context, sl_store_get_info(f.context, store, &info));
	sl_dense x = sl_dense_transposed(f.x), dz = sl_dense_transposed(f.y);
	sl_dense dx = sl_dense_transposed(activations(info.cols, 32, true));
	memset(buffers, 1, 2 * (size_t)BLOCK);
	snprintf(file, sizeof file, "%s/values.0", folder);
	snprintf(spare, sizeof spare, "%s/spare", folder);
	int fd = open(spare, O_RDWR | O_CREAT, 0666);
	if (fd < 0 || posix_fallocate(fd, 0, info.step_written + BLOCK))
		return 1;
	close(fd);
	(void)bare_copy(file, spare, 0, info.step_written, buffers); /* a file's first writes cost more than later ones */
	sl_optimizer_options adam = {SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM};
	for (int i = -1; i < runs; i++) { /* the first writes a fresh generation */
		sl_stream_report report = {.struct_size = sizeof report};
		forget_peak();
		double start = memory_of("VmRSS:"), t = now();
		RUN(f.context, sl_store_step(f.context, store, &adam, &x, &dz, &dx, NULL, &report));
		t = now() - t;
		double over = memory_of("VmHWM:") - start - BUDGET;
		if (i < 0)
			continue;
		peak = !i || over > peak ? over : peak;
		double b = bare_copy(path, spare, report.bytes_read, report.bytes_written, buffers);
		ours[i] = (double)(report.bytes_read + report.bytes_written) / t;
		bare[i] = (double)(report.bytes_read + report.bytes_written) / b;
		printf(
			"step with Adam, batch 32: %.2f s, read %.0f MB, wrote %.0f MB, %.0f MB/s; bare copy %.0f MB/s; computing "
			"%.2f s, waited %.2f s\n",
			t, (double)report.bytes_read / 1e6, (double)report.bytes_written / 1e6, ours[i] / 1e6, bare[i] / 1e6,
			report.compute_seconds, report.wait_seconds);
	}
	printf("RESULT stream.step_peak_over_budget_mib %.1f\n", peak / (1 << 20));
	printf("RESULT stream.step_transfer_bound %.3f\n", median(ours, runs) / median(bare, runs));
	sl_store_close(store);
	unlink(spare);
	return 0;
}

static int compute(const char *path, int runs) {
	double *ours = need(malloc((size_t)runs * 8)), *memory = need(malloc((size_t)runs * 8));
	forward f = open_forward(path, 1024, BUDGET, true);
	sl_context *free_context = open_context(0);
	sl_csr *matrix;
	sl_plan *plan;
	RUN(free_context, sl_csr_read(&matrix, free_context, path, SL_FORMAT_SAFETENSORS, NULL));
	RUN(free_context, sl_plan_spmm(&plan, free_context, SL_NO_TRANSPOSE, matrix, &f.x, &f.y, NULL));
	for (int i = 0; i < runs; i++) {
		sl_stream_report report;
		double t = now();
		RUN(free_context, sl_plan_run_spmm(free_context, plan, 1, matrix, &f.x, 0, &f.y, NULL));
		memory[i] = now() - t;
		ours[i] = run_forward(&f, path, &report);
		double operations = 2.0 * (double)f.info.nnz * 1024;
		printf("forward, batch 1024: in memory %.2f s (%.0f GF/s), streamed %.2f s (%lld passes, %lld chunks, waited "
			   "%.2f s)\n",
			   memory[i], operations / memory[i] / 1e9, ours[i], (long long)report.passes, (long long)report.chunks,
			   report.wait_seconds);
	}
	printf("RESULT stream.compute_bound %.3f\n", median(memory, runs) / median(ours, runs));
	return 0;
}

/* A line a stage and chunk, a column for each of WIDTH parts of the time. */
static int timeline(const char *path, int64_t batch) {
	enum { EVENTS = 4096, WIDTH = 72, CHUNKS = 7 };
	static const char *const names[] = {"read", "transfer", "compute", "write"};
	sl_stream_event *events = need(calloc(EVENTS, sizeof *events));
	forward f = open_forward(path, batch, BUDGET, true);
	sl_stream_options o = {SL_STREAM_DEFAULTS, .events = events, .event_capacity = EVENTS};
	sl_stream_report report = {.struct_size = sizeof report};
	evict(path);
	RUN(f.context, sl_stream_spmm(f.context, SL_NO_TRANSPOSE, 1, f.source, &f.x, 0, &f.y, NULL, &o, &report));
	int64_t count = report.events < EVENTS ? report.events : EVENTS;
	double end = 0, unit;
	for (int64_t i = 0; i < count; i++)
		if (events[i].chunk < CHUNKS && events[i].end > end)
			end = events[i].end;
	unit = end / WIDTH;
	printf("batch %lld, %d slots, chunks of %lld entries; a column is %.2f ms\n", (long long)batch, report.slots,
		   (long long)report.chunk_entries, 1e3 * unit);
	for (int64_t chunk = 0; chunk < CHUNKS; chunk++)
		for (int64_t i = 0; i < count; i++) {
			char bar[WIDTH + 1];
			if (events[i].chunk != chunk)
				continue;
			memset(bar, ' ', WIDTH);
			bar[WIDTH] = 0;
			int last = (int)(events[i].end / unit);
			for (int c = (int)(events[i].begin / unit); c <= last && c < WIDTH; c++)
				bar[c] = events[i].stage == SL_STAGE_COMPUTE ? '#' : '-';
			printf("%-7s %lld |%s|\n", names[events[i].stage], (long long)chunk, bar);
		}
	return 0;
}

int main(int argc, char **argv) {
	const char *mode = argc > 2 ? argv[1] : "";
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(mode, "make") && argc == 6)
		return make(argv[2], atoll(argv[3]), atoll(argv[4]), atoll(argv[5]));
	if (!strcmp(mode, "transfer"))
		return transfer(argv[2], argc > 3 ? atoi(argv[3]) : 5);
	if (!strcmp(mode, "step") && argc > 3)
		return step(argv[2], argv[3], argc > 4 ? atoi(argv[4]) : 3);
	if (!strcmp(mode, "timeline") && argc > 3)
		return timeline(argv[2], atoll(argv[3]));
	if (!strcmp(mode, "compute"))
		return compute(argv[2], argc > 3 ? atoi(argv[3]) : 3);
	if (!strcmp(mode, "forward") && argc > 3) {
		forward f = open_forward(argv[2], atoll(argv[3]), BUDGET, false);
		for (int i = 0; i < (argc > 4 ? atoi(argv[4]) : 1); i++) {
			sl_stream_report report;
			printf("%.4f\n", run_forward(&f, argv[2], &report));
		}
		return 0;
	}
	fprintf(stderr, "see the head of bench/stream.c\n");
	return 2;
}
