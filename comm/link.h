/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the MPI module. */
#ifndef SL_COMM_LINK_H
#define SL_COMM_LINK_H

#include <mpi.h>
#include <pthread.h>

#include "backend/comm.h"

enum { TICKETS = 128, PIECES = 64, HISTORY = 64 };

/* What a call was, so that ranks can compare. */
typedef struct signature {
	int64_t number, kind, count, dtype, op, root;
} signature;

typedef struct ticket {
	bool used, done;
	int error; /* of MPI */
	signature what;
	MPI_Request requests[PIECES];
	int pieces;
	MPI_Datatype type; /* to be freed; MPI_DATATYPE_NULL: none */
} ticket;

typedef struct mpi_link {
	MPI_Comm comm, control; /* duplicates of the caller's: its own traffic does not meet ours */
	int rank, size;
	double timeout;
	sl_carrier_options host;
	ticket tickets[TICKETS];
	signature history[HISTORY];
	int64_t started; /* calls so far */
	int pending;
	bool may_thread, threaded, stop;
	pthread_t thread;
	pthread_cond_t work;
} mpi_link;

/* MPI is one for the process, and so is its lock: a module-wide one. */
extern pthread_mutex_t sli_mpi_lock;

/* Under the lock: move pending calls on, and answer ranks that ask where this one is. */
void sli_mpi_advance(mpi_link *link);
/* Under the lock: name the rank that `waiting` waits for, as well as that can be known. */
sl_status sli_mpi_diagnose(mpi_link *link, const ticket *waiting);
void sli_mpi_answer(mpi_link *link);
void sli_mpi_pause(long microseconds);
double sli_mpi_now(void);
sl_status sli_mpi_failed(const mpi_link *link, int error, const char *what);

#endif
