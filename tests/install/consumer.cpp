/* SPDX-License-Identifier: Apache-2.0 */
/* A program that uses the installed library. */
#include <sparselayer/sparselayer.h>
#include <stdio.h>

int main(void) {
	sl_context *context = NULL;
	float data[6] = {0};
	sl_dense view = sl_dense_view(data, SL_F32, 2, 3);
	sl_status status = sl_context_create(&context, NULL);
	if (status == SL_OK)
		status = sl_dense_check(context, &view);
	if (status != SL_OK || sl_version() != SL_VERSION)
		fprintf(stderr, "%s: %s\n", sl_status_name(status), context ? sl_context_message(context) : "");
	sl_context_destroy(context);
	return status != SL_OK || sl_version() != SL_VERSION;
}
