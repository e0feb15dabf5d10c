/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file sparselayer.h
 * The whole public interface.
 */
#ifndef SPARSELAYER_SPARSELAYER_H
#define SPARSELAYER_SPARSELAYER_H

#include "base.h"
#include "status.h"
#include "context.h"
#include "profile.h"
#include "dense.h"
#include "divided.h"
#include "pattern.h"
#include "csr.h"
#include "ops.h"
#include "sparse.h"
#include "spgemm.h"
#include "plan.h"
#include "layer.h"
#include "function.h"
#include "loss.h"
#include "optimizer.h"
#include "topology.h"
#include "model.h"
#include "sparsity.h"
#include "io.h"
#include "data.h"
#include "loader.h"
#include "metrics.h"
#include "stream.h"
#include "store.h"
#include "streamed.h"
#include "comm.h"
#include "parallel.h"
#include "share.h"

#endif
