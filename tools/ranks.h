/* SPDX-License-Identifier: Apache-2.0 */
/* The command on several ranks, as mpirun and its like start it. */
#ifndef SL_TOOLS_RANKS_H
#define SL_TOOLS_RANKS_H

#include "command.h"

typedef struct ranks_options {
	int64_t shards;
	double timeout;
	bool shard_state, share_data;
} ranks_options;
extern const struct argp ranks_argp;

/* Ranks that share a machine share its cores, unless --threads says how many each has. */
void divide_cores(common *c);
/* Join the other ranks; alone, that is rank 0 of 1. Ranks other than 0 become quiet. */
int open_ranks(sl_comm **comm, sl_context *context, const ranks_options *o, common *c);
/* Leave with the others after a run that ended as all know, else end the job. */
void close_ranks(sl_comm *comm, sl_status status, int code);

#endif
