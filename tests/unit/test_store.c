/* SPDX-License-Identifier: Apache-2.0 */
/* The training store: against training in memory, on a disk that forgets and tears, and under kill -9. */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/context.h"
#include "stream/store.h"
#include "support/check.h"

enum { ROWS = 60, COLS = 90, BATCH = 9, STEPS = 4, FILES = 4, SECTOR = 512 };

/* ---- a disk in memory ---- */

typedef struct disk_file {
	char path[128];
	char *durable, *now; /* what survives, and what is read */
	char *dirty;         /* a byte a block */
	int64_t bytes;
} disk_file;
typedef struct disk {
	disk_file file[8];
	int files;
	long writes_left; /* until one fails; negative: none does */
	int error;
	uint64_t random;
	bool short_transfers;
} disk;

static uint64_t next_random(disk *d) {
	d->random = d->random * 6364136223846793005u + 1442695040888963407u;
	return d->random >> 33;
}

static int disk_open(void *user, const char *path, sl_open how, bool direct, void **file) {
	disk *d = user;
	(void)direct;
	for (int i = 0; i < d->files; i++)
		if (!strcmp(d->file[i].path, path)) {
			*file = &d->file[i];
			return 0;
		}
	if (how != SL_OPEN_CREATE)
		return ENOENT;
	disk_file *f = &d->file[d->files++];
	snprintf(f->path, sizeof f->path, "%s", path);
	*file = f;
	return 0;
}
static void disk_close(void *user, void *file) {
	(void)user, (void)file;
}
static int disk_read(void *user, void *file, void *to, size_t bytes, int64_t at, size_t *done) {
	disk *d = user;
	disk_file *f = file;
	int64_t left = f->bytes > at ? f->bytes - at : 0;
	*done = (int64_t)bytes < left ? bytes : (size_t)left;
	if (d->short_transfers && *done > 1)
		*done = *done / 2;
	memcpy(to, f->now + at, *done);
	return 0;
}
/* False: this write or flush fails. Arrays are written by threads of their own. */
static bool may_write(disk *d) {
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	pthread_mutex_lock(&lock);
	bool may = d->writes_left != 0;
	if (d->writes_left > 0)
		d->writes_left--;
	pthread_mutex_unlock(&lock);
	return may;
}
static int disk_write(void *user, void *file, const void *from, size_t bytes, int64_t at, size_t *done) {
	disk *d = user;
	disk_file *f = file;
	if (!may_write(d))
		return d->error;
	if (at + (int64_t)bytes > f->bytes)
		return ENOSPC;
	if (d->short_transfers && bytes > 1)
		bytes /= 2;
	memcpy(f->now + at, from, bytes);
	memset(f->dirty + at / SL_BLOCK, 1, (size_t)((at + (int64_t)bytes - 1) / SL_BLOCK - at / SL_BLOCK + 1));
	*done = bytes;
	return 0;
}
static int disk_flush(void *user, void *file) {
	disk *d = user;
	disk_file *f = file;
	if (!may_write(d))
		return d->error;
	memcpy(f->durable, f->now, (size_t)f->bytes);
	memset(f->dirty, 0, (size_t)(f->bytes / SL_BLOCK + 1));
	return 0;
}
static int disk_size(void *user, void *file, int64_t *bytes) {
	(void)user;
	*bytes = ((disk_file *)file)->bytes;
	return 0;
}
static int disk_reserve(void *user, void *file, int64_t bytes) {
	(void)user;
	disk_file *f = file;
	f->bytes = bytes;
	f->now = calloc(1, (size_t)bytes);
	f->durable = calloc(1, (size_t)bytes);
	f->dirty = calloc(1, (size_t)bytes / SL_BLOCK + 1);
	return 0;
}
static int disk_folder(void *user, const char *path) {
	(void)user, (void)path;
	return 0;
}
static bool disk_direct(void *user, void *file) {
	(void)user, (void)file;
	return false;
}
static sl_disk table_of(disk *d) {
	return (sl_disk){d,         disk_open,    disk_close,  disk_read,   disk_write, disk_flush,
					 disk_size, disk_reserve, disk_folder, disk_folder, disk_direct};
}
/* The power fails: of what was not flushed each block is there, or not, or some of its sectors are. */
static void disk_crash(disk *d) {
	for (int i = 0; i < d->files; i++) {
		disk_file *f = &d->file[i];
		for (int64_t b = 0; b * SL_BLOCK < f->bytes; b++) {
			uint64_t fate = next_random(d) % 3;
			int64_t from = b * SL_BLOCK, end = from + SL_BLOCK < f->bytes ? from + SL_BLOCK : f->bytes;
			for (int64_t s = from; f->dirty[b] && s < end; s += SECTOR)
				if (fate == 0 || (fate == 1 && next_random(d) % 2))
					memcpy(f->durable + s, f->now + s, (size_t)(end - s < SECTOR ? end - s : SECTOR));
		}
		memcpy(f->now, f->durable, (size_t)f->bytes);
		memset(f->dirty, 0, (size_t)(f->bytes / SL_BLOCK + 1));
	}
	d->writes_left = -1;
}
static void disk_free(disk *d) {
	for (int i = 0; i < d->files; i++) {
		free(d->file[i].now);
		free(d->file[i].durable);
		free(d->file[i].dirty);
	}
	d->files = 0;
}
static disk copy_of(const disk *from) {
	disk d = *from;
	for (int i = 0; i < d.files; i++) {
		disk_reserve(NULL, &d.file[i], from->file[i].bytes);
		memcpy(d.file[i].now, from->file[i].now, (size_t)from->file[i].bytes);
		memcpy(d.file[i].durable, from->file[i].durable, (size_t)from->file[i].bytes);
	}
	return d;
}

/* ---- the same training in memory ---- */

typedef struct training {
	sl_context *context;
	sl_csr *matrix;
	int64_t nnz;
	float x[COLS * BATCH], dz[ROWS * BATCH], dx[COLS * BATCH];
	float *state[STEPS + 1][3]; /* values and moments after each step */
} training;

static const sl_optimizer_options adam = {SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM, .learning_rate = 0.01, .l2 = 0.001};

static void begin(training *t, double density) {
	sl_pattern *pattern;
	sl_pattern_arrays a;
	memset(t, 0, sizeof *t);
	sl_context_options o = {SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .threads = 1, .seed = 5,
							.plan_mode = SL_PLAN_SPARSE};
	CHECK(sl_context_create(&t->context, &o) == SL_OK);
	CHECK_OK(t->context, sl_pattern_random(&pattern, t->context, ROWS, COLS, density, 3));
	CHECK_OK(t->context, sl_pattern_get(t->context, pattern, &a));
	t->nnz = a.nnz;
	for (int s = 0; s <= STEPS; s++)
		for (int i = 0; i < 3; i++)
			t->state[s][i] = calloc((size_t)a.nnz, sizeof(float));
	sl_test_fill(t->state[0][0], SL_F32, a.nnz, 11);
	sl_test_fill(t->x, SL_F32, COLS * BATCH, 12);
	sl_test_fill(t->dz, SL_F32, ROWS * BATCH, 13);
	CHECK_OK(t->context, sl_csr_wrap(&t->matrix, t->context, pattern, t->state[0][0], SL_F32, NULL, NULL));
	/* The gradient does not depend on the values, so one layer and its optimizer give all steps. */
	sl_layer *layer;
	sl_optimizer *optimizer;
	sl_parameter p = {.struct_size = sizeof p};
	CHECK_OK(t->context, sl_linear_create(&layer, t->context,
										  &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = COLS,
															   .out_features = ROWS, .weights = t->matrix}));
	CHECK_OK(t->context, sl_optimizer_create(&optimizer, t->context, &adam));
	CHECK_OK(t->context, sl_optimizer_add(t->context, optimizer, layer));
	CHECK_OK(t->context, sl_layer_parameter(t->context, layer, 0, &p));
	sl_csr *dw;
	sl_dense x = sl_dense_view(t->x, SL_F32, BATCH, COLS), dz = sl_dense_view(t->dz, SL_F32, BATCH, ROWS);
	sl_dense dzt = sl_dense_transposed(dz);
	CHECK_OK(t->context, sl_csr_wrap(&dw, t->context, pattern, p.gradient, SL_F32, NULL, NULL));
	CHECK_OK(t->context, sl_sddmm(t->context, 1, &dzt, &x, 0, dw));
	for (int s = 1; s <= STEPS; s++) {
		CHECK_OK(t->context, sl_optimizer_step(t->context, optimizer));
		memcpy(t->state[s][0], p.value, (size_t)t->nnz * sizeof(float));
		for (int i = 0; i < 2; i++) {
			void *moments;
			CHECK_OK(t->context, sl_optimizer_state(t->context, optimizer, layer, 0, i, &moments));
			memcpy(t->state[s][1 + i], moments, (size_t)t->nnz * sizeof(float));
		}
	}
	sl_csr_destroy(dw);
	sl_optimizer_destroy(optimizer);
	sl_layer_destroy(layer);
	sl_pattern_release(pattern);
}

static void end(training *t) {
	sl_csr_destroy(t->matrix);
	for (int s = 0; s <= STEPS; s++)
		for (int i = 0; i < 3; i++)
			free(t->state[s][i]);
	sl_context_destroy(t->context);
}

/* Whether the store holds exactly the state after its number of steps. */
static bool holds(training *t, sl_store *store) {
	sl_store_info info = {.struct_size = sizeof info};
	float *got = malloc((size_t)t->nnz * sizeof(float));
	CHECK_OK(t->context, sl_store_get_info(t->context, store, &info));
	CHECK(info.steps >= 0 && info.steps <= STEPS && info.nnz == t->nnz);
	bool good = true;
	for (int i = 0; i < 3; i++) {
		CHECK_OK(t->context, sl_store_read(t->context, store, i - 1, 0, t->nnz, got));
		good &= !memcmp(got, t->state[info.steps][i], (size_t)t->nnz * sizeof(float));
	}
	free(got);
	return good;
}

static int64_t steps_of(training *t, sl_store *store) {
	sl_store_info info = {.struct_size = sizeof info};
	CHECK_OK(t->context, sl_store_get_info(t->context, store, &info));
	return info.steps;
}

static sl_status step(training *t, sl_store *store, size_t slot_bytes, sl_stream_report *report) {
	sl_dense x = sl_dense_view(t->x, SL_F32, BATCH, COLS), dz = sl_dense_view(t->dz, SL_F32, BATCH, ROWS);
	sl_dense dx = sl_dense_view(t->dx, SL_F32, BATCH, COLS);
	sl_stream_options o = {SL_STREAM_DEFAULTS, .slot_bytes = slot_bytes};
	return sl_store_step(t->context, store, &adam, &x, &dz, &dx, &o, report);
}

static void make_store(training *t, const sl_disk *table, int64_t segment) {
	sl_source *source;
	CHECK_OK(t->context, sl_source_create_csr(&source, t->context, t->matrix));
	CHECK_OK(t->context, sli_store_create(t->context, table, "/store", source, 2, segment, NULL));
	CHECK_STATUS(t->context, sli_store_create(t->context, table, "/store", source, 2, segment, NULL), SL_ERR_STATE,
				 "already");
	sl_source_destroy(source);
}

SL_TEST(store, steps_have_the_bits_of_training_in_memory) {
	static const int64_t segments[] = {64, 1000, 4096, 1 << 20};
	training t;
	begin(&t, 0.3);
	for (int i = 0; i < 16; i++) {
		disk d = {.writes_left = -1, .short_transfers = i % 3 == 0};
		sl_disk table = table_of(&d);
		sl_store *store;
		sl_stream_report report = {.struct_size = sizeof report};
		make_store(&t, &table, segments[i % 4]);
		CHECK_OK(t.context, sli_store_open(&store, t.context, &table, "/store",
										   i / 4 % 2 ? SL_DURABLE_CHECKPOINT : SL_DURABLE_STEP, NULL));
		CHECK(holds(&t, store));
		for (int s = 1; s <= STEPS; s++) {
			CHECK_OK(t.context, step(&t, store, (size_t)(500 * (i + 1)), &report));
			CHECK_EQ(steps_of(&t, store), s);
			CHECK(holds(&t, store));
			CHECK(report.passes == 1 && report.bytes_written >= t.nnz * 12);
		}
		/* dX of the last step, against the values before it. */
		for (int64_t b = 0; b < BATCH; b++)
			for (int64_t c = 0; c < COLS; c++) {
				sl_pattern_arrays a;
				double sum = 0, bound = 0;
				CHECK_OK(t.context, sl_pattern_get(t.context, sl_csr_pattern(t.matrix), &a));
				for (int64_t r = 0; r < ROWS; r++)
					for (int32_t k = ((const int32_t *)a.row_offsets)[r]; k < ((const int32_t *)a.row_offsets)[r + 1];
						 k++)
						if (a.col_indices[k] == c) {
							double p = (double)t.state[STEPS - 1][0][k] * (double)t.dz[b * ROWS + r];
							sum += p;
							bound += fabs(p);
						}
				CHECK_NEAR(t.dx[b * COLS + c], sum, 8 * 0x1p-24 * bound);
			}
		CHECK_OK(t.context, sl_store_commit(t.context, store));
		sl_store_close(store);
		CHECK_OK(t.context, sli_store_open(&store, t.context, &table, "/store", SL_DURABLE_STEP, NULL));
		CHECK(steps_of(&t, store) == STEPS && holds(&t, store));
		/* The forward over it. */
		sl_dense x = sl_dense_view(t.x, SL_F32, COLS, BATCH);
		float y[ROWS * BATCH], want[ROWS * BATCH];
		sl_dense Y = sl_dense_view(y, SL_F32, ROWS, BATCH), W = sl_dense_view(want, SL_F32, ROWS, BATCH);
		sl_csr *now;
		CHECK_OK(t.context,
				 sl_csr_wrap(&now, t.context, sl_csr_pattern(t.matrix), t.state[STEPS][0], SL_F32, NULL, NULL));
		CHECK_OK(t.context,
				 sl_stream_spmm(t.context, SL_NO_TRANSPOSE, 1, sl_store_source(store), &x, 0, &Y, NULL, NULL, NULL));
		CHECK_OK(t.context, sl_spmm(t.context, SL_NO_TRANSPOSE, 1, now, &x, 0, &W, NULL));
		CHECK(!memcmp(y, want, sizeof y));
		sl_csr_destroy(now);
		sl_store_close(store);
		disk_free(&d);
	}
	end(&t);
}

/* 1,000 power failures: at a random write or flush, with random fates of what was not flushed. */
/* clip_norm: SGD without anything else moves each weight by rate * factor * gradient. */
SL_TEST(store, gradients_are_clipped_by_their_norm) {
	training t;
	begin(&t, 0.3);
	disk d = {.writes_left = -1};
	sl_disk table = table_of(&d);
	sl_source *source;
	sl_store *store;
	CHECK_OK(t.context, sl_source_create_csr(&source, t.context, t.matrix));
	CHECK_OK(t.context, sli_store_create(t.context, &table, "/store", source, 0, 4096, NULL));
	sl_source_destroy(source);
	CHECK_OK(t.context, sli_store_open(&store, t.context, &table, "/store", SL_DURABLE_STEP, NULL));
	sl_dense x = sl_dense_view(t.x, SL_F32, BATCH, COLS), dz = sl_dense_view(t.dz, SL_F32, BATCH, ROWS);
	sl_dense dzt = sl_dense_transposed(dz);
	float *gradient = calloc((size_t)t.nnz, sizeof(float)), *got = calloc((size_t)t.nnz, sizeof(float));
	sl_csr *dw;
	double squares = 0, clip = 0.5;
	CHECK_OK(t.context, sl_csr_wrap(&dw, t.context, sl_csr_pattern(t.matrix), gradient, SL_F32, NULL, NULL));
	CHECK_OK(t.context, sl_sddmm(t.context, 1, &dzt, &x, 0, dw));
	for (int64_t k = 0; k < t.nnz; k++)
		squares += (double)gradient[k] * (double)gradient[k];
	CHECK(sqrt(squares) > 2 * clip);
	sl_optimizer_options o = {SL_OPTIMIZER_DEFAULTS, .kind = SL_SGD, .learning_rate = 1, .clip_norm = clip};
	sl_stream_options small = {SL_STREAM_DEFAULTS, .slot_bytes = 1500};
	sl_stream_report report = {.struct_size = sizeof report};
	CHECK_OK(t.context, sl_store_step(t.context, store, &o, &x, &dz, NULL, &small, &report));
	CHECK_EQ(report.passes, 2);
	CHECK_OK(t.context, sl_store_read(t.context, store, -1, 0, t.nnz, got));
	for (int64_t k = 0; k < t.nnz; k++)
		CHECK_NEAR(got[k], (double)t.state[0][0][k] - clip / sqrt(squares) * (double)gradient[k], 4 * 0x1p-24);
	/* A norm that is not finite: nothing is updated. */
	t.x[3] = HUGE_VALF;
	CHECK_STATUS(t.context, sl_store_step(t.context, store, &o, &x, &dz, NULL, &small, NULL), SL_ERR_NONFINITE, "norm");
	CHECK_EQ(steps_of(&t, store), 1);
	sl_store_close(store);
	sl_csr_destroy(dw);
	free(gradient);
	free(got);
	disk_free(&d);
	end(&t);
}

SL_TEST(store, a_disk_that_forgets_and_tears) {
	training t;
	disk fresh = {.writes_left = -1};
	sl_disk table = table_of(&fresh);
	int before = 0, after = 0;
	begin(&t, 0.4);
	make_store(&t, &table, 4096);
	for (uint64_t seed = 1; seed <= 1000; seed++) {
		disk d = copy_of(&fresh);
		d.random = seed * 977;
		table.user = &d;
		sl_store *store;
		sl_durability durability = seed % 2 ? SL_DURABLE_STEP : SL_DURABLE_CHECKPOINT;
		CHECK_OK(t.context, sli_store_open(&store, t.context, &table, "/store", durability, NULL));
		int64_t whole = 0, tried = 0;
		d.writes_left = (long)(next_random(&d) % 60);
		d.error = EIO;
		for (int s = 1; s <= STEPS; s++) {
			tried = s;
			if (step(&t, store, 1500, NULL) != SL_OK ||
				(durability && s == 2 && sl_store_commit(t.context, store) != SL_OK))
				break;
			whole = durability ? (s >= 2 ? 2 : 0) : s;
		}
		sl_store_close(store);
		disk_crash(&d);
		CHECK_OK(t.context, sli_store_open(&store, t.context, &table, "/store", SL_DURABLE_STEP, NULL));
		int64_t got = steps_of(&t, store);
		if (!(got >= whole && got <= tried && holds(&t, store)))
			sl_test_fail(__FILE__, __LINE__, "seed %llu: %lld steps were whole, %lld tried; it opens with %lld, %s",
						 (unsigned long long)seed, (long long)whole, (long long)tried, (long long)got,
						 holds(&t, store) ? "whole" : "damaged");
		before += got == whole;
		after += got > whole;
		/* And it goes on. */
		while (seed % 20 == 0 && got < STEPS) {
			CHECK_OK(t.context, step(&t, store, 1500, NULL));
			got++;
			CHECK(holds(&t, store));
		}
		sl_store_close(store);
		disk_free(&d);
	}
	CHECK(before > 100 && after > 0);
	disk_free(&fresh);
	end(&t);
}

SL_TEST(store, what_goes_wrong_is_said_and_the_store_stays_whole) {
	training t;
	disk d = {.writes_left = -1};
	sl_disk table = table_of(&d);
	sl_store *store;
	begin(&t, 0.4);
	make_store(&t, &table, 4096);
	CHECK_OK(t.context, sli_store_open(&store, t.context, &table, "/store", SL_DURABLE_STEP, NULL));
	CHECK_OK(t.context, step(&t, store, 1500, NULL));
	for (long n = 0; n < 8; n++) { /* a full disk */
		d.writes_left = n;
		d.error = ENOSPC;
		sl_status status = step(&t, store, 1500, NULL);
		d.writes_left = -1;
		CHECK_EQ(status, SL_ERR_NO_SPACE);
		CHECK(strstr(sl_context_message(t.context), "/store"));
		CHECK_EQ(steps_of(&t, store), 1);
		CHECK(holds(&t, store));
	}
	sl_optimizer_options o = {SL_OPTIMIZER_DEFAULTS, .kind = SL_SGD};
	sl_dense x = sl_dense_view(t.x, SL_F32, BATCH, COLS), dz = sl_dense_view(t.dz, SL_F32, BATCH, ROWS);
	CHECK_STATUS(t.context, sl_store_step(t.context, store, &o, &x, &dz, NULL, NULL, NULL), SL_ERR_ARGUMENT, "moments");
	CHECK_STATUS(t.context, sl_store_step(t.context, store, &adam, &dz, &x, NULL, NULL, NULL), SL_ERR_SHAPE, "X is");
	sl_store_close(store);
	/* A flipped bit anywhere in the values or columns is noticed by the step that reads it. */
	static const struct {
		const char *path;
		int64_t at;
	} places[] = {{"/store/values.1", 100}, {"/store/values.1", 13000}, {"/store/pattern", SL_BLOCK * 2 + 40}};
	for (int i = 0; i < 3; i++) {
		void *file;
		CHECK(!disk_open(&d, places[i].path, SL_OPEN_READ, false, &file));
		((disk_file *)file)->now[places[i].at] ^= 4;
		CHECK_OK(t.context, sli_store_open(&store, t.context, &table, "/store", SL_DURABLE_STEP, NULL));
		CHECK_STATUS(t.context, step(&t, store, 1500, NULL), SL_ERR_FORMAT, "checksum");
		CHECK_EQ(steps_of(&t, store), 1);
		sl_store_close(store);
		((disk_file *)file)->now[places[i].at] ^= 4;
	}
	void *file;
	CHECK(!disk_open(&d, "/store/header", SL_OPEN_READ, false, &file));
	((disk_file *)file)->now[20] ^= 1;
	((disk_file *)file)->now[SL_BLOCK + 20] ^= 1;
	CHECK_STATUS(t.context, sli_store_open(&store, t.context, &table, "/store", SL_DURABLE_STEP, NULL), SL_ERR_FORMAT,
				 "header");
	CHECK(!store);
	CHECK_STATUS(t.context, sl_store_open(&store, t.context, "/nonexistent", SL_DURABLE_STEP), SL_ERR_NOT_FOUND,
				 "pattern");
	disk_free(&d);
	end(&t);
}

/* A process that trains is killed at random moments; SL_KILLS says how often. */
SL_TEST(store, killed_at_random_moments) {
	int kills = getenv("SL_KILLS") ? atoi(getenv("SL_KILLS")) : 20;
	char folder[64] = "/tmp/sparselayer-store-XXXXXX", path[100];
	training t;
	begin(&t, 0.5);
	CHECK(mkdtemp(folder) != NULL);
	uint64_t random = 77;
	for (int i = 0; i < kills; i++) {
		sl_source *source;
		sl_store *store;
		snprintf(path, sizeof path, "%s/%d", folder, i);
		CHECK_OK(t.context, sl_source_create_csr(&source, t.context, t.matrix));
		CHECK_OK(t.context, sl_store_create(t.context, path, source, 2));
		sl_source_destroy(source);
		pid_t child = fork();
		CHECK(child >= 0);
		if (!child) {
			if (sl_store_open(&store, t.context, path, SL_DURABLE_STEP) != SL_OK)
				_exit(1);
			for (int s = 0; s < STEPS; s++)
				if (step(&t, store, 1500, NULL) != SL_OK)
					_exit(2);
			_exit(0);
		}
		random = random * 6364136223846793005u + 1442695040888963407u;
		usleep((useconds_t)((random >> 33) % 20000));
		kill(child, SIGKILL);
		int how;
		CHECK(waitpid(child, &how, 0) == child);
		CHECK(WIFSIGNALED(how) || WEXITSTATUS(how) == 0);
		CHECK_OK(t.context, sl_store_open(&store, t.context, path, SL_DURABLE_STEP));
		CHECK(holds(&t, store));
		sl_store_close(store);
		static const char *const names[] = {"pattern", "values.0", "values.1", "header"};
		for (int f = 0; f < FILES; f++) {
			char name[128];
			snprintf(name, sizeof name, "%s/%s", path, names[f]);
			unlink(name);
		}
		rmdir(path);
	}
	rmdir(folder);
	end(&t);
}
