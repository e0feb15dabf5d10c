/* SPDX-License-Identifier: Apache-2.0 */
#include "ranks.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { KEY_SHARDS = 500, KEY_SHARD_STATE, KEY_SHARE_DATA, KEY_TIMEOUT };

static const struct argp_option list[] = {
	{NULL, 0, NULL, 0, "Several ranks (mpirun -n N sparselayer train ...)", 5},
	{"shards", KEY_SHARDS, "N", 0,
	 "Divide each batch into N parts and add them up in a fixed order: the same bits on 1 to N ranks", 5},
	{"shard-state", KEY_SHARD_STATE, NULL, 0, "Each rank keeps the moments of its share of the weights alone", 5},
	{"share-data", KEY_SHARE_DATA, NULL, 0,
	 "Each rank reads its share of the data alone; --batch is then a multiple of --shards (not given: of 8)", 5},
	{"timeout", KEY_TIMEOUT, "SECONDS", 0, "After which a rank that others wait for is given up (default 300)", 5},
	{0}};

static error_t parse(int key, char *text, struct argp_state *state) {
	ranks_options *o = state->input;
	switch (key) {
	case KEY_SHARDS:
		o->shards = integer_option(state, "shards", text, 1, 1 << 20);
		return 0;
	case KEY_SHARD_STATE:
		o->shard_state = true;
		return 0;
	case KEY_SHARE_DATA:
		o->share_data = true;
		return 0;
	case KEY_TIMEOUT:
		o->timeout = number_option(state, "timeout", text, 1e-3, 1e9);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

const struct argp ranks_argp = {list, parse, NULL, NULL, NULL, NULL, NULL};

void divide_cores(common *c) {
	/* Open MPI's and MPICH's number of ranks on this machine. */
	const char *text = getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
	text = text ? text : getenv("MPI_LOCALNRANKS");
	long ranks = text ? strtol(text, NULL, 10) : 1, cores = sysconf(_SC_NPROCESSORS_ONLN);
	if (c->threads || ranks < 2)
		return;
	c->threads = cores > ranks ? (int)(cores / ranks) : 1;
}

int open_ranks(sl_comm **comm, sl_context *context, const ranks_options *o, common *c) {
	sl_status status = sl_comm_create(comm, context, &(sl_comm_options){SL_COMM_DEFAULTS, .timeout = o->timeout});
	if (status != SL_OK)
		return fail(context, status);
	c->quiet = c->quiet || sl_comm_rank(*comm) > 0;
	return EXIT_OK;
}

void close_ranks(sl_comm *comm, sl_status status, int code) {
	/* Others may wait for this rank, and would for long. */
	if (sl_comm_size(comm) > 1 && status != SL_OK && status != SL_ERR_CANCELLED)
		sl_comm_abort(comm, code);
	sl_comm_destroy(comm);
}
