/* SPDX-License-Identifier: Apache-2.0 */
/* The thread team of a context: a pthreadpool of its own or the caller's parallel-for. */
#ifndef SL_CORE_PARALLEL_H
#define SL_CORE_PARALLEL_H

#include "core/heap.h"

typedef struct sl_team sl_team;

sl_status sli_team_create(sl_team **team, sl_heap *heap, int threads, const sl_parallel_for *parallel_for,
						  bool flush_to_zero);
void sli_team_destroy(sl_team *team);
int sli_team_threads(const sl_team *team);
void sli_team_run(sl_team *team, size_t count, void (*task)(void *argument, size_t index), void *argument);

#endif
