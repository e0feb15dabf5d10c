/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "command.h"

int command_devices(int argc, char **argv) {
	static const struct argp argp = {
		NULL, NULL, "", "List what computations could run on, and why a GPU is not among it.", NULL, NULL, NULL};
	enum { MOST = 64 };
	static sl_device_info devices[MOST];
	int count = MOST;
	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	for (int i = 0; i < MOST; i++)
		devices[i].struct_size = sizeof devices[i];
	sl_status status = sl_devices(devices, &count);
	if (status != SL_OK)
		return fail(NULL, status);
	for (int i = 0; i < count && i < MOST; i++) {
		const sl_device_info *d = &devices[i];
		printf("%s:%d  %s", sl_device_name(d->device), d->index, d->usable ? d->name : "not usable");
		if (d->usable && d->units)
			printf(", %d %s", d->units, d->device == SL_DEVICE_CPU ? "cores" : "multiprocessors");
		if (d->usable && d->memory)
			printf(", %.1f GiB", (double)d->memory / 1073741824);
		printf("%s%s\n", d->detail[0] ? ": " : "", d->detail);
	}
	return EXIT_OK;
}
