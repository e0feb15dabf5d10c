/* SPDX-License-Identifier: Apache-2.0 */
/* Before src/comm/comm.c: as a later version of the library would compile it. */
#include <sparselayer/base.h>
#undef SL_VERSION
#define SL_VERSION 999999
