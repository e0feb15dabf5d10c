/* SPDX-License-Identifier: Apache-2.0 */
#include <sparselayer/status.h>

const char *sl_status_text(sl_status status) {
	switch (status) {
#define TEXT(name, value, text)                                                                                        \
	case name:                                                                                                         \
		return text;
		SL_STATUS_LIST(TEXT)
	}
	return "unknown status";
}

const char *sl_status_name(sl_status status) {
	switch (status) {
#define NAME(name, value, text)                                                                                        \
	case name:                                                                                                         \
		return #name;
		SL_STATUS_LIST(NAME)
	}
	return "SL_UNKNOWN";
}
