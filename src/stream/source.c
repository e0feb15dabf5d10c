/* SPDX-License-Identifier: Apache-2.0 */
/* Where a streamed matrix lives. */
#include <string.h>

#include "stream/stream.h"

sl_status sli_source_new(sl_source **source, sl_context *context, const char *path) {
	void *memory;
	*source = NULL;
	SL_TRY(sli_allocate_zeroed(context, sizeof(sl_source), "a source", &memory));
	sl_source *s = memory;
	s->heap = sli_heap_retain(sli_heap(context));
	s->disk = &sli_disk;
	s->piece = SL_STREAM_PIECE;
	if (path) {
		s->path_bytes = strlen(path) + 1;
		sl_status status = sli_allocate(context, s->path_bytes, "a source's path", (void **)&s->path);
		if (status != SL_OK) {
			s->path_bytes = 0;
			sli_source_free(s);
			return status;
		}
		memcpy(s->path, path, s->path_bytes);
	}
	*source = s;
	return SL_OK;
}

void sli_source_free(sl_source *s) {
	if (!s)
		return;
	if (s->files[0])
		s->disk->close(s->disk->user, s->files[0]);
	if (s->matrix)
		sl_pattern_release(s->matrix->pattern);
	sl_heap *heap = s->heap;
	sli_heap_free(heap, s->path, s->path_bytes);
	sli_heap_free(heap, s, sizeof *s);
	sli_heap_release(heap);
}
