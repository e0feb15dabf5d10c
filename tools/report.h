/* SPDX-License-Identifier: Apache-2.0 */
/* What train leaves to be looked at: one HTML file with pictures inside, which asks the network for nothing. */
#ifndef SL_TOOLS_REPORT_H
#define SL_TOOLS_REPORT_H

#include "command.h"

typedef struct report report;

/* Begin with the model as it is, which is pictured; `watched` (static): what the samples are called that are looked at
 * after each epoch. NULL without memory. */
report *report_begin(sl_context *context, const sl_model *model, const char *watched);
/* Keep an epoch's figures and the layers' densities. False without memory. */
bool report_epoch(report *r, sl_context *context, const sl_model *model, const sl_epoch *epoch);
/* Write it with the model as it is now. `argv` is shown. False: errno says why. */
bool report_write(report *r, sl_context *context, const sl_model *model, const char *path, int argc, char **argv);
/* NULL is allowed. */
void report_free(report *r);

#endif
