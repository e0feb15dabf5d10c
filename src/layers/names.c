/* SPDX-License-Identifier: Apache-2.0 */
/* The names that files, messages and the command use for the library's enumerations. */
#include <sparselayer/model.h>

#define COUNT(list) (int)(sizeof(list) / sizeof *(list))

static const char *name_in(const char *const *list, int count, int value) {
	return value >= 0 && value < count ? list[value] : "unknown";
}

const char *sl_activation_name(sl_activation activation) {
	static const char *const list[] = {"identity", "relu", "clipped-relu", "leaky-relu", "sigmoid", "tanh", "gelu"};
	return name_in(list, COUNT(list), (int)activation);
}

const char *sl_loss_name(sl_loss loss) {
	static const char *const list[] = {"softmax-cross-entropy", "binary-cross-entropy", "mse"};
	return name_in(list, COUNT(list), (int)loss);
}

const char *sl_optimizer_kind_name(sl_optimizer_kind kind) {
	static const char *const list[] = {"sgd", "momentum", "nesterov", "adam", "adamw"};
	return name_in(list, COUNT(list), (int)kind);
}

const char *sl_init_name(sl_init init) {
	static const char *const list[] = {"glorot-uniform", "glorot-normal", "he-uniform", "he-normal", "uniform", "zero"};
	return name_in(list, COUNT(list), (int)init);
}
