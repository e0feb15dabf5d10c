/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which rank is it that others wait for? After the timeout a rank asks all others where they are. Who waits too, or has
 * a thread for it, answers; who has died or stopped does not, and is named.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "link.h"

enum { ASK = 1, REPLY = 2 };

/* To a question about call `asked`. */
typedef struct reply {
	int64_t started; /* calls that rank has begun */
	signature call;  /* the one asked for, or number -1: forgotten or not begun */
} reply;

double sli_mpi_now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void sli_mpi_pause(long microseconds) {
	if (microseconds)
		nanosleep(&(struct timespec){.tv_nsec = microseconds * 1000}, NULL);
	else
		sched_yield();
}

void sli_mpi_answer(mpi_link *link) {
	int there = 0;
	MPI_Status from;
	while (link->size > 1 && MPI_Iprobe(MPI_ANY_SOURCE, ASK, link->control, &there, &from) == MPI_SUCCESS && there) {
		int64_t asked = 0;
		reply r = {.started = link->started, .call = {.number = -1}};
		if (MPI_Recv(&asked, 1, MPI_INT64_T, from.MPI_SOURCE, ASK, link->control, MPI_STATUS_IGNORE) != MPI_SUCCESS)
			return;
		if (asked >= 0 && link->history[asked % HISTORY].number == asked)
			r.call = link->history[asked % HISTORY];
		/* Small: sent at once, whatever the other rank does. */
		MPI_Send(&r, (int)(sizeof r / sizeof(int64_t)), MPI_INT64_T, from.MPI_SOURCE, REPLY, link->control);
	}
}

/* The module leans on no symbol of the library. */
static const char *dtype_name(sl_dtype dtype) {
	static const char *const names[] = {"?", "f32", "f64", "bf16", "f16"};
	return dtype == SL_I32 ? "i32" : dtype == SL_I64 ? "i64" : names[dtype > SL_F16 ? 0 : dtype];
}

static const char *call_text(const signature *s, char *text, size_t size) {
	static const char *const names[] = {"all-reduce", "all-gather", "reduce-scatter",
										"all-to-all", "broadcast",  "barrier"};
	if (s->kind == SL_CALL_BARRIER)
		snprintf(text, size, "barrier (call %lld)", (long long)s->number);
	else
		snprintf(text, size, "%s of %lld %s (call %lld)", names[s->kind], (long long)s->count,
				 dtype_name((sl_dtype)s->dtype), (long long)s->number);
	return text;
}

static bool same_call(const signature *a, const signature *b) {
	return a->kind == b->kind && a->count == b->count && a->dtype == b->dtype && a->op == b->op && a->root == b->root;
}

static void gather_replies(mpi_link *link, int64_t number, reply *replies, MPI_Request *requests, bool *came) {
	double grace = link->timeout / 4 < 1 ? 1 : link->timeout / 4 > 5 ? 5 : link->timeout / 4, began = sli_mpi_now();
	for (int r = 0; r < link->size; r++) {
		MPI_Request sent;
		requests[r] = MPI_REQUEST_NULL;
		if (r == link->rank)
			continue;
		/* The question stays where it is until this process ends: whoever does not take it is gone. */
		static int64_t asked;
		asked = number;
		MPI_Irecv(&replies[r], (int)(sizeof *replies / sizeof(int64_t)), MPI_INT64_T, r, REPLY, link->control,
				  &requests[r]);
		if (MPI_Isend(&asked, 1, MPI_INT64_T, r, ASK, link->control, &sent) == MPI_SUCCESS)
			MPI_Request_free(&sent);
	}
	for (int left = link->size - 1; left && sli_mpi_now() - began < grace; sli_mpi_pause(500)) {
		sli_mpi_answer(link);
		for (int r = 0; r < link->size; r++) {
			int done = 0;
			if (r == link->rank || came[r])
				continue;
			if (MPI_Test(&requests[r], &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && done) {
				came[r] = true;
				left--;
			}
		}
	}
}

sl_status sli_mpi_diagnose(mpi_link *link, const ticket *waiting) {
	const sl_carrier_options *h = &link->host;
	char mine[96], theirs[96];
	const signature *call = &waiting->what;
	/* Not freed: an answer may still come. */
	reply *replies = calloc((size_t)link->size, sizeof *replies);
	MPI_Request *requests = calloc((size_t)link->size, sizeof *requests);
	bool *came = calloc((size_t)link->size, sizeof *came);
	call_text(call, mine, sizeof mine);
	if (!replies || !requests || !came)
		return h->fail(h->user, SL_ERR_COMM, "rank %d of %d waited %g s in %s in vain", link->rank, link->size,
					   link->timeout, mine);
	gather_replies(link, call->number, replies, requests, came);
	for (int r = 0; r < link->size; r++)
		if (r != link->rank && !came[r])
			return h->fail(
				h->user, SL_ERR_COMM,
				"rank %d of %d does not answer, after rank %d waited %g s for it in %s: it has died or hangs", r,
				link->size, link->rank, link->timeout, mine);
	for (int r = 0; r < link->size; r++)
		if (r != link->rank && replies[r].call.number == call->number && !same_call(&replies[r].call, call))
			return h->fail(h->user, SL_ERR_COMM, "rank %d of %d is in %s, where rank %d is in %s", r, link->size,
						   call_text(&replies[r].call, theirs, sizeof theirs), link->rank, mine);
	for (int r = 0; r < link->size; r++)
		if (r != link->rank && replies[r].started <= call->number)
			return h->fail(h->user, SL_ERR_COMM,
						   "rank %d of %d lives, but has not come to %s within %g s: it made %lld calls so far", r,
						   link->size, mine, link->timeout, (long long)replies[r].started);
	return h->fail(h->user, SL_ERR_COMM, "all %d ranks are in %s, which is not done after %g s: a link is stuck",
				   link->size, mine, link->timeout);
}
