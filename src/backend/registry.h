/* SPDX-License-Identifier: Apache-2.0 */
/* Which backends there are. The only place that names them. */
#ifndef SL_BACKEND_REGISTRY_H
#define SL_BACKEND_REGISTRY_H

#include "backend/backend.h"
#include "backend/comm.h"

/* The table of a device's backend. For CUDA the module is loaded from the library's own folder and
 * `handle` receives what sli_backend_unload() wants back; NULL, with the reason in `why`, where it
 * cannot be. */
const sl_backend *sli_backend_load(sl_device device, void **handle, char *why, size_t why_size);
void sli_backend_unload(void *handle);
/* Likewise what carries data between ranks: MPI or NCCL. */
const sl_carrier *sli_carrier_load(sl_comm_kind kind, void **handle, char *why, size_t why_size);

#endif
