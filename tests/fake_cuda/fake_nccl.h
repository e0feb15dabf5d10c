/* SPDX-License-Identifier: Apache-2.0 */
/* NCCL on the fake GPU (nccl.c), for tests. Its calls are counted and made to fail as the runtime's are. */
#ifndef SL_TESTS_FAKE_NCCL_H
#define SL_TESTS_FAKE_NCCL_H

/* Communicators that were made and neither destroyed nor aborted. */
long fake_nccl_live(void);

#endif
