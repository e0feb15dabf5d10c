/* SPDX-License-Identifier: Apache-2.0 */
/* Files: what SciPy and safetensors wrote (tests/data/make.py) is read as the matrix both sides compute
 * by themselves; what is written comes back; what is damaged or hostile is refused, with its place. */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "support/check.h"

enum { ROWS = 17, COLS = 11 };

/* As in tests/data/make.py. */
static double value(int i, int j) {
	if (i == 4 || (i * 7 + j * 13) % 5)
		return 0;
	double v = ((i * 31 + j * 17) % 19 - 9) / 4.0;
	return v != 0 ? v : 2.5;
}

static const char *data(const char *name) {
	static char path[512];
	snprintf(path, sizeof path, "%s/%s", SL_TEST_DATA, name);
	return path;
}

static char folder[64];

static const char *scratch(const char *name) {
	static char paths[4][128];
	static int turn;
	if (!folder[0]) {
		strcpy(folder, "/tmp/sparselayer-io-XXXXXX");
		if (!mkdtemp(folder))
			sl_test_fail(__FILE__, __LINE__, "no scratch folder");
	}
	char *path = paths[turn++ % 4];
	snprintf(path, sizeof paths[0], "%s/%s", folder, name);
	return path;
}

static void clean(void) {
	char command[128];
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	if (folder[0] && system(command))
		fprintf(stderr, "%s was left behind\n", folder);
	folder[0] = 0;
}

static void write_bytes(const char *path, const void *bytes, size_t count) {
	FILE *f = fopen(path, "wb");
	CHECK(f && fwrite(bytes, 1, count, f) == count && !fclose(f));
}

static char *read_bytes(const char *path, size_t *count) {
	FILE *f = fopen(path, "rb");
	char *bytes = malloc(1 << 20);
	CHECK(f && bytes);
	*count = fread(bytes, 1, 1 << 20, f);
	fclose(f);
	return bytes;
}

/* The matrix equals `wanted` as a dense one; takes it. */
static void check_matrix(sl_context *context, sl_csr *m, int rows, int cols, double (*wanted)(int, int),
						 sl_dtype dtype) {
	static double x[ROWS * COLS];
	sl_dense view = sl_dense_view(x, SL_F64, rows, cols);
	CHECK_EQ(sl_csr_dtype(m), dtype);
	CHECK_OK(context, sl_csr_to_dense(context, m, &view));
	for (int i = 0; i < rows; i++)
		for (int j = 0; j < cols; j++)
			if (x[i * cols + j] != wanted(i, j))
				sl_test_fail(__FILE__, __LINE__, "(%d, %d) is %g, not %g", i, j, x[i * cols + j], wanted(i, j));
	sl_csr_destroy(m);
}

static double structure(int i, int j) {
	return value(i, j) != 0;
}
static double quadruple(int i, int j) {
	return 4 * value(i, j);
}
static double symmetric(int i, int j) {
	return value(i, j) + value(j, i);
}
static double skew(int i, int j) {
	return value(i, j) - value(j, i);
}

SL_TEST(io, reads_what_others_wrote) {
	sl_context *context = sl_test_context();
	static const struct {
		const char *name;
		double (*wanted)(int, int);
		int rows;
		sl_dtype dtype;
	} files[] = {{"csr.npz", value, ROWS, SL_F32},           {"csc.npz", value, ROWS, SL_F64},
				 {"coo.npz", quadruple, ROWS, SL_F64},       {"half.npz", value, ROWS, SL_F16},
				 {"general.mtx", value, ROWS, SL_F64},       {"array.mtx", value, ROWS, SL_F64},
				 {"pattern.mtx", structure, ROWS, SL_F64},   {"integer.mtx", quadruple, ROWS, SL_F64},
				 {"symmetric.mtx", symmetric, COLS, SL_F64}, {"skew.mtx", skew, COLS, SL_F64},
				 {"matrix.smtx", structure, ROWS, SL_F32},   {"matrix.safetensors", value, ROWS, SL_F32}};
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		sl_csr *m;
		CHECK_OK(context, sl_csr_read(&m, context, data(files[i].name), SL_FORMAT_AUTO, NULL));
		check_matrix(context, m, files[i].rows, COLS, files[i].wanted, files[i].dtype);
	}
	sl_context_destroy(context);
}

SL_TEST(io, what_is_written_comes_back) {
	sl_context *context = sl_test_context();
	static const char *const names[] = {"a.npz", "a.mtx", "a.safetensors"};
	static const sl_dtype dtypes[] = {SL_F32, SL_F64, SL_F16, SL_BF16};
	sl_csr *m, *typed, *back;
	CHECK_OK(context, sl_csr_read(&m, context, data("csc.npz"), SL_FORMAT_AUTO, NULL));
	for (int d = 0; d < 4; d++) {
		CHECK_OK(context, sl_csr_convert(&typed, context, m, dtypes[d]));
		for (int i = 0; i < 3; i++) {
			if (i == 0 && dtypes[d] == SL_BF16) {
				CHECK_STATUS(context, sl_csr_write(context, typed, scratch(names[i]), SL_FORMAT_AUTO), SL_ERR_DTYPE,
							 "bf16");
				continue;
			}
			/* Twice: over a file that is there. */
			CHECK_OK(context, sl_csr_write(context, typed, scratch(names[i]), SL_FORMAT_AUTO));
			CHECK_OK(context, sl_csr_write(context, typed, scratch(names[i]), SL_FORMAT_AUTO));
			CHECK_OK(context, sl_csr_read(&back, context, scratch(names[i]), SL_FORMAT_AUTO, NULL));
			check_matrix(context, back, ROWS, COLS, value, i == 1 ? SL_F64 : dtypes[d]);
		}
		sl_csr_destroy(typed);
	}
	CHECK_OK(context, sl_csr_write(context, m, scratch("a.smtx"), SL_FORMAT_AUTO));
	CHECK_OK(context, sl_csr_read(&back, context, scratch("a.smtx"), SL_FORMAT_AUTO, NULL));
	check_matrix(context, back, ROWS, COLS, structure, SL_F32);
	CHECK_STATUS(context, sl_csr_write(context, m, scratch("a.idx"), SL_FORMAT_AUTO), SL_ERR_UNSUPPORTED,
				 "read, not written");
	CHECK_STATUS(context, sl_csr_write(context, m, scratch("a.txt"), SL_FORMAT_AUTO), SL_ERR_ARGUMENT, ".safetensors");
	CHECK_STATUS(context, sl_csr_write(context, m, "/nowhere/a.npz", SL_FORMAT_AUTO), SL_ERR_NOT_FOUND, "folder");
	CHECK_STATUS(context, sl_csr_write(context, m, "/dev/null", SL_FORMAT_SMTX), SL_ERR_IO, "not a regular file");
	sl_csr_destroy(m);
	/* Nothing at all goes round too. */
	int32_t zero[1] = {0};
	CHECK_OK(context, sl_csr_create(&m, context, 0, 0, 0, zero, SL_I32, NULL, SL_I32, NULL, SL_F32, NULL));
	static const char *const all[] = {"e.npz", "e.mtx", "e.safetensors", "e.smtx"};
	for (int i = 0; i < 4; i++) {
		CHECK_OK(context, sl_csr_write(context, m, scratch(all[i]), SL_FORMAT_AUTO));
		CHECK_OK(context, sl_csr_read(&back, context, scratch(all[i]), SL_FORMAT_AUTO, NULL));
		check_matrix(context, back, 0, 0, value, i == 1 ? SL_F64 : SL_F32);
	}
	sl_csr_destroy(m);
	sl_context_destroy(context);
	clean();
}

/* Any file with some bytes of it gone, or another in their place, is a matrix or a status: never a crash,
 * and nothing is left allocated. */
SL_TEST(io, damaged_files) {
	sl_context *context = sl_test_context();
	static const char *const names[] = {"csr.npz",   "coo.npz",     "general.mtx",
										"array.mtx", "matrix.smtx", "matrix.safetensors"};
	sl_memory_usage before, after;
	SL_OPTIONS_INIT(before);
	SL_OPTIONS_INIT(after);
	sl_context_memory(context, &before);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		size_t count;
		char *bytes = read_bytes(data(names[i]), &count);
		const char *path = scratch(names[i]);
		sl_csr *m;
		for (size_t cut = 0; cut < count; cut += count / 40 + 1) {
			write_bytes(path, bytes, cut);
			sl_status status = sl_csr_read(&m, context, path, SL_FORMAT_AUTO, NULL);
			/* Of text files only the last number's end can be lost unseen. */
			if (status == SL_OK && (cut + 8 < count || i < 2 || i == 5))
				sl_test_fail(__FILE__, __LINE__, "%s cut to %zu bytes was read", names[i], cut);
			CHECK((status == SL_OK) == (m != NULL) && (m || sl_context_message(context)[0]));
			sl_csr_destroy(m);
		}
		for (size_t at = 0; at < count; at++)
			for (int flip = 1; flip < 256; flip *= 5) {
				bytes[at] = (char)(bytes[at] ^ flip);
				write_bytes(path, bytes, count);
				sl_status status = sl_csr_read(&m, context, path, SL_FORMAT_AUTO, NULL);
				CHECK((status == SL_OK) == (m != NULL));
				sl_csr_destroy(m);
				bytes[at] = (char)(bytes[at] ^ flip);
			}
		free(bytes);
	}
	sl_context_memory(context, &after);
	CHECK_EQ(after.current, before.current);
	sl_context_destroy(context);
	clean();
}

/* Text with a status and a piece of its message. */
static void refuse(sl_context *context, const char *name, const char *text, sl_status status, const char *message) {
	sl_csr *m;
	write_bytes(scratch(name), text, strlen(text));
	sl_status got = sl_csr_read(&m, context, scratch(name), SL_FORMAT_AUTO, NULL);
	if (got != status || !strstr(sl_context_message(context), message))
		sl_test_fail(__FILE__, __LINE__, "\"%.80s\" gave %s: %s (wanted %s: %s)", text, sl_status_name(got),
					 sl_context_message(context), sl_status_name(status), message);
	CHECK(!m);
}

SL_TEST(io, bad_text_names_its_line) {
	sl_context *context = sl_test_context();
	const char *banner = "%%MatrixMarket matrix coordinate real general\n";
	char text[256];
#define MTX(rest, status, message)                                                                                     \
	snprintf(text, sizeof text, "%s%s", banner, rest), refuse(context, "x.mtx", text, status, message)
	MTX("2 2 1\n3 1 1.5\n", SL_ERR_FORMAT, "line 3: the row is 3; it must be between 1 and 2");
	MTX("2 2 1\n1 0 1.5\n", SL_ERR_FORMAT, "line 3: the column is 0");
	MTX("2 2 1\n1 1 x\n", SL_ERR_FORMAT, "line 3: the value is \"x\"");
	MTX("2 2 1\n1 1 1\n2 2 2\n", SL_ERR_FORMAT, "line 4: \"2\" after the last of 1 entries");
	MTX("2 2 99\n1 1 1\n", SL_ERR_FORMAT, "cannot hold them");
	MTX("2 2 2\n1 1 1.000000000\n", SL_ERR_FORMAT, "the row is \"\"");
	MTX("2 2 9000000000000\n", SL_ERR_LIMIT, "max_nonzeros");
	MTX("2 2 99999999999999999999\n", SL_ERR_FORMAT, "line 2: the number of entries");
	MTX("2 5000000000 0\n", SL_ERR_FORMAT, "number of columns is 5000000000");
	MTX("99999999999999 5 0\n", SL_ERR_LIMIT, "max_bytes");
	MTX("-2 2 0\n", SL_ERR_FORMAT, "number of rows is -2");
	refuse(context, "x.mtx", "%%MatrixMarket matrix coordinate complex general\n1 1 0\n", SL_ERR_UNSUPPORTED,
		   "complex");
	refuse(context, "x.mtx", "%%MatrixMarket matrix coordinate real hermitian\n1 1 0\n", SL_ERR_UNSUPPORTED,
		   "hermitian");
	refuse(context, "x.mtx", "%%MatrixMarket vector\n", SL_ERR_FORMAT, "line 1");
	refuse(context, "x.mtx", "", SL_ERR_FORMAT, "line 1");
	refuse(context, "x.smtx", "2, 3, 2\n0 3 2\n0 1\n", SL_ERR_FORMAT, "line 2: a row offset is 3");
	refuse(context, "x.smtx", "2, 3, 2\n0 1 2\n0 3\n", SL_ERR_FORMAT, "line 3: a column index is 3");
	refuse(context, "x.smtx", "2, 3, 2\n0 2 1\n0 1\n", SL_ERR_STRUCTURE, "row_offsets[2] is 1");
	refuse(context, "x.smtx", "2, 3, 2\n0 2 2\n1 1\n", SL_ERR_STRUCTURE, "occurs twice");
	refuse(context, "x.smtx", "2, 3, 7000000\n0 2 2\n1 1\n", SL_ERR_FORMAT, "cannot hold them");
	refuse(context, "x.txt", "hello", SL_ERR_FORMAT, "neither its content nor its name");
	sl_csr *m;
	CHECK_STATUS(context, sl_csr_read(&m, context, "/no/such.mtx", SL_FORMAT_AUTO, NULL), SL_ERR_NOT_FOUND,
				 "/no/such.mtx");
	CHECK_STATUS(context, sl_csr_read(&m, context, "/tmp", SL_FORMAT_MATRIX_MARKET, NULL), SL_ERR_IO, "regular");
	sl_context_destroy(context);
	clean();
}

SL_TEST(io, hostile_archives) {
	sl_context *context = sl_test_context();
	sl_csr *m;
	sl_read_limits limits;
	SL_OPTIONS_INIT(limits);
	CHECK_STATUS(context, sl_csr_read(&m, context, data("pickled.npz"), SL_FORMAT_AUTO, NULL), SL_ERR_FORMAT,
				 "pickled");
	CHECK_STATUS(context, sl_csr_read(&m, context, data("bsr.npz"), SL_FORMAT_AUTO, NULL), SL_ERR_UNSUPPORTED,
				 "\"bsr\"");
	/* 2 MB of zeros in 3 KB: fine by default (and then refused for what it holds), not under a limit. */
	CHECK_STATUS(context, sl_csr_read(&m, context, data("bomb.npz"), SL_FORMAT_AUTO, NULL), SL_ERR_STRUCTURE, "");
	limits.max_bytes = 1 << 20;
	CHECK_STATUS(context, sl_csr_read(&m, context, data("bomb.npz"), SL_FORMAT_AUTO, &limits), SL_ERR_LIMIT,
				 "max_bytes");
	limits.max_nonzeros = 10;
	CHECK_STATUS(context, sl_csr_read(&m, context, data("csr.npz"), SL_FORMAT_AUTO, &limits), SL_ERR_LIMIT,
				 "max_nonzeros");
	CHECK_STATUS(context, sl_csr_read(&m, context, data("matrix.safetensors"), SL_FORMAT_AUTO, &limits), SL_ERR_LIMIT,
				 "max_nonzeros");
	CHECK_STATUS(context, sl_csr_read(&m, context, data("general.mtx"), SL_FORMAT_AUTO, &limits), SL_ERR_LIMIT,
				 "max_nonzeros");
	sl_context_destroy(context);
}

/* A safetensors file of this header and `bytes` zeros. */
static void refuse_header(sl_context *context, const char *header, size_t bytes, sl_status status,
						  const char *message) {
	static unsigned char file[4096];
	size_t length = strlen(header);
	sl_csr *m;
	memset(file, 0, sizeof file);
	file[0] = (unsigned char)length;
	file[1] = (unsigned char)(length >> 8);
	memcpy(file + 8, header, length);
	write_bytes(scratch("x.safetensors"), file, 8 + length + bytes);
	sl_status got = sl_csr_read(&m, context, scratch("x.safetensors"), SL_FORMAT_AUTO, NULL);
	if (got != status || !strstr(sl_context_message(context), message))
		sl_test_fail(__FILE__, __LINE__, "%.100s gave %s: %s", header, sl_status_name(got),
					 sl_context_message(context));
	CHECK(!m);
}

SL_TEST(io, hostile_headers) {
	sl_context *context = sl_test_context();
	sl_csr *m;
	/* A header that claims a petabyte. */
	unsigned char huge[16] = {0, 0, 0, 0, 0, 0, 4, 0, '{'};
	write_bytes(scratch("x.safetensors"), huge, sizeof huge);
	CHECK_STATUS(context, sl_csr_read(&m, context, scratch("x.safetensors"), SL_FORMAT_AUTO, NULL), SL_ERR_FORMAT,
				 "declares a header of 1125899906842624 bytes");
	write_bytes(scratch("x.safetensors"), huge, 3);
	CHECK_STATUS(context, sl_csr_read(&m, context, scratch("x.safetensors"), SL_FORMAT_AUTO, NULL), SL_ERR_FORMAT,
				 "3 bytes");
#define META "\"__metadata__\":{\"format\":\"sparselayer.csr\",\"rows\":\"1\",\"cols\":\"2\"}"
	refuse_header(context, "{]", 0, SL_ERR_FORMAT, "no JSON object");
	refuse_header(context, "{\"a\":1,\"a\":2}", 0, SL_ERR_FORMAT, "no JSON object");
	refuse_header(context, "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,17]}}", 16, SL_ERR_FORMAT,
				  "bytes 0 to 17 of 16");
	refuse_header(context, "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,16]}}", 16,
				  SL_ERR_FORMAT, "shape");
	refuse_header(context, "{\"a\":{\"dtype\":\"F32\",\"shape\":[-4],\"data_offsets\":[0,16]}}", 16, SL_ERR_FORMAT,
				  "shape");
	refuse_header(context, "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[-16,0]}}", 16, SL_ERR_FORMAT,
				  "bytes -16");
	refuse_header(context, "{\"a\":{\"dtype\":\"Q9\",\"shape\":[4],\"data_offsets\":[0,16]}}", 16, SL_ERR_FORMAT,
				  "dtype");
	refuse_header(
		context,
		"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[3],"
		"\"data_offsets\":[4,16]}}",
		16, SL_ERR_FORMAT, "overlap");
	refuse_header(context, "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}", 16, SL_ERR_FORMAT,
				  "gap");
	refuse_header(context, "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 16, SL_ERR_FORMAT,
				  "end at byte 8");
	refuse_header(context, "{\"__metadata__\":{\"a\":1}}", 0, SL_ERR_FORMAT, "no text");
	refuse_header(context, "{\"__metadata__\":[]}", 0, SL_ERR_FORMAT, "no object");
	refuse_header(context, "{}", 0, SL_ERR_FORMAT, "holds no single matrix");
	refuse_header(context, "{" META "}", 0, SL_ERR_FORMAT, "matrix.values");
	/* Offsets [0, 0] with one column: the last must be 1. */
	refuse_header(context,
				  "{" META ",\"matrix.row_offsets\":{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[0,8]},"
				  "\"matrix.col_indices\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[8,12]},"
				  "\"matrix.values\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]}}",
				  16, SL_ERR_STRUCTURE, "nnz = 1");
	refuse_header(context,
				  "{" META ",\"matrix.row_offsets\":{\"dtype\":\"I32\",\"shape\":[3],\"data_offsets\":[0,12]},"
				  "\"matrix.col_indices\":{\"dtype\":\"I32\",\"shape\":[0],\"data_offsets\":[12,12]},"
				  "\"matrix.values\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[12,12]}}",
				  12, SL_ERR_FORMAT, "1 rows need one more");
	sl_context_destroy(context);
	clean();
}

SL_TEST(io, a_full_disk_leaves_the_old_file_whole) {
	sl_context *context = sl_test_context();
	static const char *const names[] = {"full.npz", "full.mtx", "full.safetensors", "full.smtx"};
	struct rlimit old, tight = {4096, 4096};
	sl_pattern *p;
	sl_csr *m, *big;
	CHECK_OK(context, sl_csr_read(&m, context, data("csr.npz"), SL_FORMAT_AUTO, NULL));
	CHECK_OK(context, sl_pattern_random(&p, context, 500, 500, 0.5, 1));
	CHECK_OK(context, sl_csr_create_pattern(&big, context, p, SL_F32));
	sl_test_fill(sl_csr_values(big), SL_F32, 125000, 1);
	for (int i = 0; i < 4; i++)
		CHECK_OK(context, sl_csr_write(context, m, scratch(names[i]), SL_FORMAT_AUTO));
	/* A limit on the size of files is the full disk that a test can have. */
	getrlimit(RLIMIT_FSIZE, &old);
	signal(SIGXFSZ, SIG_IGN);
	tight.rlim_max = old.rlim_max;
	CHECK(setrlimit(RLIMIT_FSIZE, &tight) == 0);
	sl_status status[4];
	for (int i = 0; i < 4; i++)
		status[i] = sl_csr_write(context, big, scratch(names[i]), SL_FORMAT_AUTO);
	CHECK(setrlimit(RLIMIT_FSIZE, &old) == 0);
	for (int i = 0; i < 4; i++) {
		sl_csr *back;
		CHECK_EQ(status[i], SL_ERR_NO_SPACE);
		CHECK_OK(context, sl_csr_read(&back, context, scratch(names[i]), SL_FORMAT_AUTO, NULL));
		check_matrix(context, back, ROWS, COLS, i == 3 ? structure : value, i == 1 ? SL_F64 : SL_F32);
	}
	/* And no temporary file stays behind. */
	char command[128];
	snprintf(command, sizeof command, "test $(ls -A '%s' | wc -l) = 4", folder);
	CHECK(system(command) == 0);
	sl_csr_destroy(m), sl_csr_destroy(big), sl_pattern_release(p);
	sl_context_destroy(context);
	clean();
}

SL_TEST(io, links_and_permissions_survive) {
	sl_context *context = sl_test_context();
	struct stat info;
	sl_csr *m;
	CHECK_OK(context, sl_csr_read(&m, context, data("csr.npz"), SL_FORMAT_AUTO, NULL));
	static const char *const names[] = {"target.npz", "target.mtx"};
	for (int i = 0; i < 2; i++) {
		const char *target = scratch(names[i]), *link = scratch(i ? "link.mtx" : "link.npz");
		CHECK_OK(context, sl_csr_write(context, m, target, SL_FORMAT_AUTO));
		CHECK(chmod(target, 0640) == 0 && symlink(target, link) == 0);
		CHECK_OK(context, sl_csr_write(context, m, link, SL_FORMAT_AUTO));
		CHECK(lstat(link, &info) == 0 && S_ISLNK(info.st_mode));
		CHECK(stat(target, &info) == 0);
		CHECK_EQ(info.st_mode & 0777, 0640);
	}
	sl_csr_destroy(m);
	sl_context_destroy(context);
	clean();
}

SL_TEST(io, idx) {
	sl_context *context = sl_test_context();
	static const unsigned char bytes[] = {0, 0, 0x0B, 2,   0, 0, 0, 2, 0, 0, 0,   3,
										  0, 1, 255,  254, 0, 0, 1, 0, 0, 5, 128, 0};
	static const float wanted[] = {1, -2, 0, 256, 5, -32768};
	sl_idx x;
	SL_OPTIONS_INIT(x);
	write_bytes(scratch("plain"), bytes, sizeof bytes);
	gzFile gz = gzopen(scratch("zipped"), "wb");
	CHECK(gz && gzwrite(gz, bytes, sizeof bytes) == sizeof bytes && gzclose(gz) == Z_OK);
	for (int zipped = 0; zipped < 2; zipped++) {
		CHECK_OK(context, sl_idx_read(context, scratch(zipped ? "zipped" : "plain"), NULL, &x));
		CHECK(x.dimensions == 2 && x.shape[0] == 2 && x.shape[1] == 3 && x.count == 6);
		CHECK(!memcmp(x.values, wanted, sizeof wanted));
		sl_idx_free(context, &x);
		SL_OPTIONS_INIT(x);
	}
	sl_csr *m;
	sl_pattern_arrays a;
	CHECK_OK(context, sl_csr_read(&m, context, scratch("plain"), SL_FORMAT_AUTO, NULL));
	CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(m), &a));
	CHECK(a.rows == 2 && a.cols == 3 && a.nnz == 5 && ((float *)sl_csr_values(m))[4] == -32768);
	sl_csr_destroy(m);
	unsigned char bad[sizeof bytes + 1];
	memcpy(bad, bytes, sizeof bytes);
	for (size_t cut = 0; cut < sizeof bytes; cut++) {
		write_bytes(scratch("cut"), bytes, cut);
		CHECK(sl_idx_read(context, scratch("cut"), NULL, &x) == SL_ERR_FORMAT);
	}
	bad[sizeof bytes] = 7;
	write_bytes(scratch("long"), bad, sizeof bad);
	CHECK_STATUS(context, sl_idx_read(context, scratch("long"), NULL, &x), SL_ERR_FORMAT, "goes on after");
	bad[4] = bad[8] = 0x7f; /* 2^31 * 2^31 elements */
	write_bytes(scratch("huge"), bad, sizeof bytes);
	CHECK_STATUS(context, sl_idx_read(context, scratch("huge"), NULL, &x), SL_ERR_LIMIT, "max_bytes");
	bad[4] = 0xff;
	write_bytes(scratch("negative"), bad, sizeof bytes);
	CHECK_STATUS(context, sl_idx_read(context, scratch("negative"), NULL, &x), SL_ERR_FORMAT, "dimension 0");
	sl_dataset *d;
	CHECK_STATUS(context, sl_dataset_read_mnist(&d, context, folder, true), SL_ERR_NOT_FOUND, "dataset-fashion-mnist");
	sl_context_destroy(context);
	clean();
}

/* ---- Models ---- */

enum { IN = 12, SAMPLES = 90, BATCH = 16 };
static float x_data[SAMPLES * IN];
static int32_t y_data[SAMPLES];

static sl_context *seeded(uint64_t seed) {
	sl_context *context;
	sl_context_options o;
	SL_OPTIONS_INIT(o);
	o.device = SL_DEVICE_CPU;
	o.seed = seed;
	o.threads = 2;
	CHECK(sl_context_create(&context, &o) == SL_OK);
	return context;
}

static sl_model *make_model(sl_context *context) {
	static const struct {
		int64_t in, out;
		double density;
		sl_activation activation;
	} layers[] = {{IN, 20, 0.3, SL_LEAKY_RELU}, {20, 20, 0.2, SL_GELU}, {20, 3, 1, SL_IDENTITY}};
	sl_model *model;
	CHECK_OK(context, sl_model_create(&model, context));
	for (int i = 0; i < 3; i++) {
		sl_linear_options o;
		sl_layer *layer;
		SL_OPTIONS_INIT(o);
		o.in_features = layers[i].in;
		o.out_features = layers[i].out;
		o.density = layers[i].density;
		o.dense = i == 2;
		o.bias = i != 1;
		o.activation = layers[i].activation;
		o.stream = (uint64_t)i;
		o.name = i == 1 ? "the \"middle\" one" : NULL;
		CHECK_OK(context, sl_linear_create(&layer, context, &o));
		CHECK_OK(context, sl_model_add(context, model, layer));
	}
	return model;
}

/* Stop after some batches. */
static bool stop_at(void *user, const sl_progress *p) {
	return p->epoch < 1 || p->done < *(int64_t *)user;
}

static sl_status fit(sl_context *context, sl_model *model, sl_optimizer *optimizer, const sl_checkpoint *from) {
	sl_samples samples;
	sl_fit_options o;
	SL_OPTIONS_INIT(samples);
	SL_OPTIONS_INIT(o);
	samples.inputs = sl_dense_view(x_data, SL_F32, SAMPLES, IN);
	samples.labels = y_data;
	o.epochs = 4;
	o.batch = BATCH;
	o.first_epoch = from ? from->epochs_done : 0;
	o.first_sample = from ? from->samples_done : 0;
	return sl_model_fit(context, model, optimizer, &samples, &o);
}

static void check_same(sl_context *context, const sl_model *a, const sl_model *b) {
	for (int l = 0; l < 3; l++)
		for (int p = 0; p < sl_layer_parameter_count(sl_model_layer(a, l)); p++) {
			sl_parameter x, y;
			SL_OPTIONS_INIT(x);
			SL_OPTIONS_INIT(y);
			CHECK_OK(context, sl_layer_parameter(context, sl_model_layer(a, l), p, &x));
			CHECK_OK(context, sl_layer_parameter(context, sl_model_layer(b, l), p, &y));
			CHECK_EQ(x.count, y.count);
			CHECK(!memcmp(x.value, y.value, (size_t)x.count * sizeof(float)));
		}
}

SL_TEST(io, training_resumes_bit_for_bit_in_the_middle_of_an_epoch) {
	sl_test_fill(x_data, SL_F32, SAMPLES * IN, 3);
	for (int i = 0; i < SAMPLES; i++)
		y_data[i] = (x_data[i * IN] > 0) + (x_data[i * IN + 1] > 0);
	for (int kind = SL_SGD; kind <= SL_ADAMW; kind++) {
		sl_context *context = seeded(7), *other = seeded(7);
		sl_model *whole = make_model(context), *half = make_model(context), *resumed;
		sl_optimizer_options o;
		sl_optimizer *first, *second, *third;
		SL_OPTIONS_INIT(o);
		o.kind = (sl_optimizer_kind)kind;
		o.learning_rate = 0.1 / 3;
		o.l1 = 1e-4;
		o.clip_norm = 1;
		o.schedule.kind = SL_SCHEDULE_COSINE;
		o.schedule.total = 20;
		o.schedule.warmup = 3;
		CHECK_OK(context, sl_optimizer_create(&first, context, &o));
		CHECK_OK(context, sl_model_add_to_optimizer(context, whole, first));
		CHECK_OK(context, fit(context, whole, first, NULL));
		CHECK_OK(context, sl_optimizer_create(&second, context, &o));
		CHECK_OK(context, sl_model_add_to_optimizer(context, half, second));
		int64_t until = 3 * BATCH;
		CHECK_OK(context, sl_context_set_progress(context, stop_at, &until));
		CHECK_EQ(fit(context, half, second, NULL), SL_ERR_CANCELLED);
		sl_checkpoint c, back;
		SL_OPTIONS_INIT(c);
		SL_OPTIONS_INIT(back);
		c.epochs_done = 1;
		c.samples_done = until;
		c.batch = BATCH;
		c.accumulate = 1;
		CHECK_OK(context, sl_model_save(context, half, second, &c, scratch("half.safetensors")));
		/* Another context, as in another process. */
		CHECK_OK(other, sl_model_load(&resumed, &third, &back, other, scratch("half.safetensors"), NULL));
		CHECK(back.epochs_done == 1 && back.samples_done == until && back.batch == BATCH && back.seed == 7);
		check_same(context, half, resumed);
		CHECK_OK(other, fit(other, resumed, third, &back));
		check_same(context, whole, resumed);
		/* Saved again, the finished runs are the same file. */
		size_t n[2];
		CHECK_OK(context, sl_model_save(context, whole, first, NULL, scratch("1.safetensors")));
		CHECK_OK(other, sl_model_save(other, resumed, third, NULL, scratch("2.safetensors")));
		char *one = read_bytes(scratch("1.safetensors"), &n[0]), *two = read_bytes(scratch("2.safetensors"), &n[1]);
		CHECK(n[0] == n[1] && !memcmp(one, two, n[0]));
		free(one), free(two);
		sl_optimizer_destroy(first), sl_optimizer_destroy(second), sl_optimizer_destroy(third);
		sl_model_destroy(whole), sl_model_destroy(half), sl_model_destroy(resumed);
		sl_context_destroy(context), sl_context_destroy(other);
	}
	clean();
}

SL_TEST(io, damaged_models) {
	sl_context *context = seeded(7);
	sl_model *model = make_model(context), *loaded;
	sl_optimizer *optimizer, *back;
	sl_optimizer_options o;
	SL_OPTIONS_INIT(o);
	o.kind = SL_ADAM;
	CHECK_OK(context, sl_optimizer_create(&optimizer, context, &o));
	CHECK_OK(context, sl_model_add_to_optimizer(context, model, optimizer));
	CHECK_OK(context, sl_model_save(context, model, optimizer, NULL, scratch("m.safetensors")));
	/* A model alone has no optimizer; a matrix is no model and a model no matrix. */
	CHECK_OK(context, sl_model_save(context, model, NULL, NULL, scratch("alone.safetensors")));
	CHECK_OK(context, sl_model_load(&loaded, &back, NULL, context, scratch("alone.safetensors"), NULL));
	CHECK(!back);
	check_same(context, model, loaded);
	sl_model_destroy(loaded);
	CHECK_STATUS(context, sl_model_load(&loaded, NULL, NULL, context, data("matrix.safetensors"), NULL), SL_ERR_FORMAT,
				 "no model");
	sl_csr *m;
	CHECK_STATUS(context, sl_csr_read(&m, context, scratch("alone.safetensors"), SL_FORMAT_AUTO, NULL), SL_ERR_FORMAT,
				 "it is a model");
	sl_memory_usage before, after;
	SL_OPTIONS_INIT(before);
	SL_OPTIONS_INIT(after);
	sl_context_memory(context, &before);
	size_t count;
	char *bytes = read_bytes(scratch("m.safetensors"), &count);
	uint64_t header;
	memcpy(&header, bytes, 8);
	for (size_t at = 0; at < 8 + header; at++) {
		bytes[at] ^= 4;
		write_bytes(scratch("bad.safetensors"), bytes, count);
		bytes[at] ^= 4;
		sl_status status = sl_model_load(&loaded, &back, NULL, context, scratch("bad.safetensors"), NULL);
		CHECK((status == SL_OK) == (loaded != NULL) && (loaded || !back));
		sl_optimizer_destroy(back), sl_model_destroy(loaded);
	}
	for (size_t cut = 0; cut < count; cut += 97) {
		write_bytes(scratch("bad.safetensors"), bytes, cut);
		CHECK(sl_model_load(&loaded, &back, NULL, context, scratch("bad.safetensors"), NULL) != SL_OK && !loaded &&
			  !back);
	}
	sl_context_memory(context, &after);
	CHECK_EQ(after.current, before.current);
	free(bytes);
	/* State that no longer fits its layer is not saved. */
	CHECK_OK(context, sl_layer_prune(context, sl_model_layer(model, 0), 0.1, NULL));
	CHECK_STATUS(context, sl_model_save(context, model, optimizer, NULL, scratch("m.safetensors")), SL_ERR_STATE,
				 "edited");
	sl_optimizer_destroy(optimizer), sl_model_destroy(model);
	sl_context_destroy(context);
	clean();
}
