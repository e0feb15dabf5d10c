/* SPDX-License-Identifier: Apache-2.0 */
/* IDX, the format of the MNIST family: zero, zero, type, dimensions; sizes as big-endian int32; the
 * elements, big-endian. Plain or gzip, told apart by zlib. */
#include <unistd.h>
#include <zlib.h>

#include "core/checked.h"
#include "io/share.h"

static uint32_t big_endian(const unsigned char *bytes, int count) {
	uint32_t value = 0;
	for (int i = 0; i < count; i++)
		value = value << 8 | bytes[i];
	return value;
}

static size_t element_size(unsigned type) {
	switch (type) {
	case 0x08:
	case 0x09:
		return 1;
	case 0x0B:
		return 2;
	case 0x0C:
	case 0x0D:
		return 4;
	case 0x0E:
		return 8;
	}
	return 0;
}

static float element(const unsigned char *bytes, unsigned type) {
	uint32_t word = big_endian(bytes, type == 0x0B ? 2 : 4);
	switch (type) {
	case 0x08:
		return bytes[0];
	case 0x09:
		return (float)(int8_t)bytes[0];
	case 0x0B:
		return (float)(int16_t)word;
	case 0x0C:
		return (float)(int32_t)word;
	case 0x0D: {
		float value;
		memcpy(&value, &word, sizeof value);
		return value;
	}
	default: {
		uint64_t bits = (uint64_t)word << 32 | big_endian(bytes + 4, 4);
		double value;
		memcpy(&value, &bits, sizeof value);
		return (float)value;
	}
	}
}

/* Exactly `count` bytes, or a status that names the byte where the file ended. */
static sl_status read_exactly(sl_context *context, gzFile file, const char *path, void *to, unsigned count) {
	int got = gzread(file, to, count), code;
	if (got == (int)count)
		return SL_OK;
	const char *text = gzerror(file, &code);
	if (got < 0 || code == Z_DATA_ERROR || code == Z_BUF_ERROR)
		return sli_fail(context, SL_ERR_FORMAT, "%s: damaged near byte %lld: %s", path, (long long)gztell(file), text);
	return sli_fail(context, SL_ERR_FORMAT, "%s: ends at byte %lld, inside what its header declares", path,
					(long long)gztell(file));
}

static sl_status read_header(sl_context *context, gzFile file, const char *path, int64_t file_size,
							 const sl_read_limits *limits, unsigned *type, sl_idx *array) {
	unsigned char bytes[16];
	SL_TRY(read_exactly(context, file, path, bytes, 4));
	*type = bytes[2];
	if (bytes[0] || bytes[1] || !element_size(*type))
		return sli_fail(context, SL_ERR_FORMAT, "%s: begins with %02x %02x %02x %02x, which is no IDX header", path,
						bytes[0], bytes[1], bytes[2], bytes[3]);
	if (bytes[3] < 1 || bytes[3] > 4)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "%s: has %d dimensions; 1 to 4 are read", path, bytes[3]);
	array->dimensions = bytes[3];
	array->count = 1;
	SL_TRY(read_exactly(context, file, path, bytes, 4u * bytes[3]));
	for (int i = 0; i < array->dimensions; i++) {
		array->shape[i] = (int32_t)big_endian(bytes + 4 * i, 4);
		if (array->shape[i] < 0 || !sli_mul(array->count, array->shape[i], &array->count))
			return sli_fail(context, SL_ERR_FORMAT, "%s: dimension %d is %lld", path, i, (long long)array->shape[i]);
	}
	int64_t stored, held;
	if (!sli_mul(array->count, (int64_t)element_size(*type), &stored) || !sli_mul(array->count, 4, &held) ||
		stored > limits->max_bytes || held > limits->max_bytes)
		return sli_fail(context, SL_ERR_LIMIT, "%s: declares %lld elements, more than max_bytes = %lld allows", path,
						(long long)array->count, (long long)limits->max_bytes);
	if (stored / SL_MOST_COMPRESSION > file_size)
		return sli_fail(context, SL_ERR_FORMAT, "%s: declares %lld bytes; a file of %lld bytes cannot hold them", path,
						(long long)stored, (long long)file_size);
	return SL_OK;
}

static sl_status read_elements(sl_context *context, gzFile file, const char *path, unsigned type, bool to_end,
							   sl_idx *array) {
	enum { BLOCK = 4096 };
	unsigned char bytes[BLOCK * 8];
	size_t size = element_size(type);
	for (int64_t at = 0; at < array->count; at += BLOCK) {
		int64_t n = array->count - at < BLOCK ? array->count - at : BLOCK;
		SL_TRY(read_exactly(context, file, path, bytes, (unsigned)n * (unsigned)size));
		for (int64_t i = 0; i < n; i++)
			array->values[at + i] = element(bytes + (size_t)i * size, type);
	}
	if (to_end && gzread(file, bytes, 1) > 0)
		return sli_fail(context, SL_ERR_FORMAT, "%s: goes on after the last element, at byte %lld", path,
						(long long)gztell(file) - 1);
	return SL_OK;
}

/* Go to the first of this rank's rows, whose array this becomes. *to_end: its last row is the file's. */
static sl_status go_to_share(sl_context *context, gzFile file, const char *path, unsigned type, sl_share *share,
							 sl_idx *array, bool *to_end) {
	int64_t row = array->shape[0] ? array->count / array->shape[0] : 0;
	sli_share_take(share, array->shape[0]);
	*to_end = share->first + share->count == share->total;
	array->shape[0] = share->count;
	array->count = share->count * row;
	z_off_t bytes = (z_off_t)(share->first * row) * (z_off_t)element_size(type);
	if (gzseek(file, bytes, SEEK_CUR) < 0)
		return sli_fail(context, SL_ERR_FORMAT, "%s: ends before row %lld, which its header declares", path,
						(long long)share->first);
	return SL_OK;
}

sl_status sli_idx_read_share(sl_context *context, const char *path, const sl_read_limits *limits, sl_share *share,
							 sl_idx *array) {
	bool to_end = true;
	int fd;
	int64_t size;
	unsigned type;
	sl_idx read = {.struct_size = sizeof read};
	SL_TRY(sli_open_read(context, path, &fd, &size));
	gzFile file = gzdopen(fd, "rb");
	if (!file) {
		close(fd);
		return sli_fail_memory(context, 1 << 15, "reading a file");
	}
	sl_status status = read_header(context, file, path, size, limits, &type, &read);
	if (status == SL_OK && share)
		status = go_to_share(context, file, path, type, share, &read, &to_end);
	if (status == SL_OK)
		status = sli_allocate(context, (size_t)read.count * sizeof(float), "an IDX array", (void **)&read.values);
	if (status == SL_OK)
		status = read_elements(context, file, path, type, to_end, &read);
	gzclose(file);
	if (status != SL_OK) {
		sli_idx_free(sli_heap(context), &read);
		return status;
	}
	*array = read;
	return SL_OK;
}

sl_status sli_idx_read(sl_context *context, const char *path, const sl_read_limits *limits, sl_idx *array) {
	return sli_idx_read_share(context, path, limits, NULL, array);
}

void sli_idx_free(sl_heap *heap, sl_idx *array) {
	sli_heap_free(heap, array->values, (size_t)array->count * sizeof(float));
	memset(array, 0, sizeof *array);
}
