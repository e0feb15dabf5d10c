/* SPDX-License-Identifier: Apache-2.0 */
#include "report.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { SIDE = 128, WIDTH = 560, HEIGHT = 220, MARGIN = 48, MOST_LINES = 8 };

/* Where a layer's weights are, SIDE x SIDE at most: the share of cells that have one. */
typedef struct picture {
	int rows, cols;
	unsigned char shade[SIDE * SIDE];
} picture;

struct report {
	int layers, count, capacity;
	sl_epoch *epochs;
	double *density; /* a row of `layers` an epoch */
	picture *before;
	const char *watched; /* what the samples are called that are looked at after each epoch */
};

/* ---- Collecting ---- */

static bool take_picture(sl_context *context, const sl_layer *layer, picture *p) {
	static double cells[SIDE * SIDE], filled[SIDE * SIDE];
	sl_parameter w = {.struct_size = sizeof w};
	sl_pattern_arrays a;
	if (sl_layer_parameter(context, layer, 0, &w) != SL_OK)
		return false;
	p->rows = w.rows < SIDE ? (int)w.rows : SIDE;
	p->cols = w.cols < SIDE ? (int)w.cols : SIDE;
	memset(p->shade, 255, sizeof p->shade);
	if (!w.pattern)
		return true;
	if (sl_pattern_get(context, w.pattern, &a) != SL_OK)
		return false;
	p->rows = a.rows < SIDE ? (int)a.rows : SIDE;
	p->cols = a.cols < SIDE ? (int)a.cols : SIDE;
	memset(filled, 0, sizeof filled);
	for (int r = 0; r < p->rows; r++)
		for (int c = 0; c < p->cols; c++)
			cells[r * SIDE + c] =
				(double)((a.rows * (r + 1) + p->rows - 1) / p->rows - (a.rows * r + p->rows - 1) / p->rows) *
				(double)((a.cols * (c + 1) + p->cols - 1) / p->cols - (a.cols * c + p->cols - 1) / p->cols);
	for (int64_t r = 0, k = 0; r < a.rows; r++) {
		int64_t end = a.offset_dtype == SL_I64 ? ((const int64_t *)a.row_offsets)[r + 1]
											   : ((const int32_t *)a.row_offsets)[r + 1];
		for (; k < end; k++)
			filled[r * p->rows / a.rows * SIDE + (int64_t)a.col_indices[k] * p->cols / a.cols]++;
	}
	for (int i = 0; i < SIDE * SIDE; i++) /* a root, so that few percent can be told from none */
		p->shade[i] = cells[i] > 0 ? (unsigned char)(255 * sqrt(fmin(1, filled[i] / cells[i]))) : 0;
	return true;
}

report *report_begin(sl_context *context, const sl_model *model, const char *watched) {
	report *r = calloc(1, sizeof *r);
	if (!r)
		return NULL;
	r->watched = watched;
	r->layers = sl_model_layer_count(model);
	r->before = calloc((size_t)r->layers + 1, sizeof *r->before);
	bool ok = r->before != NULL;
	for (int i = 0; ok && i < r->layers; i++)
		ok = take_picture(context, sl_model_layer(model, i), &r->before[i]);
	if (!ok) {
		report_free(r);
		return NULL;
	}
	return r;
}

bool report_epoch(report *r, sl_context *context, const sl_model *model, const sl_epoch *epoch) {
	if (r->count == r->capacity) {
		int capacity = r->capacity ? 2 * r->capacity : 32;
		sl_epoch *epochs = realloc(r->epochs, (size_t)capacity * sizeof *epochs);
		if (!epochs)
			return false;
		r->epochs = epochs;
		double *density = realloc(r->density, (size_t)capacity * ((size_t)r->layers + 1) * sizeof *density);
		if (!density)
			return false;
		r->density = density;
		r->capacity = capacity;
	}
	r->epochs[r->count] = *epoch;
	for (int i = 0; i < r->layers; i++) {
		sl_layer_info info = {.struct_size = sizeof info};
		if (sl_layer_get_info(context, sl_model_layer(model, i), &info) != SL_OK)
			return false;
		r->density[r->count * r->layers + i] = info.density;
	}
	r->count++;
	return true;
}

void report_free(report *r) {
	if (!r)
		return;
	free(r->epochs);
	free(r->density);
	free(r->before);
	free(r);
}

/* ---- Writing ---- */

static void text(FILE *f, const char *s) {
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		if (c == '&' || c == '<' || c == '>' || c == '"' || c == '\'' || c < 32)
			fprintf(f, "&#%d;", c < 32 ? 32 : c);
		else
			fputc(c, f);
	}
}

typedef struct line {
	const char *name;
	double *values; /* one an epoch; NaN: none */
} line;

static const char *const colours[MOST_LINES] = {"#1f77b4", "#d62728", "#2ca02c", "#9467bd",
												"#ff7f0e", "#17becf", "#8c564b", "#7f7f7f"};

static double across(int i, int count) {
	return MARGIN + (count > 1 ? (double)i / (count - 1) : 0.5) * (WIDTH - 2 * MARGIN);
}

/* A chart of lines over epochs, between the least and the largest value. */
static void chart(FILE *f, const char *title, const line *lines, int count, int points, int first_epoch) {
	double low = INFINITY, high = -INFINITY;
	for (int l = 0; l < count; l++)
		for (int i = 0; i < points; i++)
			if (isfinite(lines[l].values[i])) {
				low = fmin(low, lines[l].values[i]);
				high = fmax(high, lines[l].values[i]);
			}
	if (!(low <= high))
		return;
	double span = high > low ? high - low : fabs(high) > 0 ? fabs(high) : 1;
	fprintf(f, "<figure><figcaption>%s</figcaption><svg viewBox=\"0 0 %d %d\" role=\"img\">", title, WIDTH, HEIGHT);
	for (int t = 0; t <= 4; t++) {
		double y = HEIGHT - MARGIN - t * (HEIGHT - 2.0 * MARGIN) / 4;
		fprintf(f, "<path d=\"M%d %.1fH%d\" class=\"grid\"/><text x=\"%d\" y=\"%.1f\" class=\"tick\">%.4g</text>",
				MARGIN, y, WIDTH - MARGIN, MARGIN - 4, y + 4, low + t * span / 4);
	}
	fprintf(f, "<text x=\"%d\" y=\"%d\">epoch %d</text><text x=\"%d\" y=\"%d\" class=\"tick\">%d</text>", MARGIN,
			HEIGHT - MARGIN + 16, first_epoch, WIDTH - MARGIN, HEIGHT - MARGIN + 16, first_epoch + points - 1);
	for (int l = 0; l < count; l++) {
		fprintf(f, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", colours[l % MOST_LINES]);
		for (int i = 0; i < points; i++)
			if (isfinite(lines[l].values[i]))
				fprintf(f, "%.1f,%.1f ", across(i, points),
						HEIGHT - MARGIN - (lines[l].values[i] - low) / span * (HEIGHT - 2.0 * MARGIN));
		fprintf(f, "\"/><text x=\"%d\" y=\"16\" fill=\"%s\">", MARGIN + l % MOST_LINES * (WIDTH - MARGIN) / MOST_LINES,
				colours[l % MOST_LINES]);
		text(f, lines[l].name);
		fputs("</text>", f);
	}
	fputs("</svg></figure>\n", f);
}

static void base64(FILE *f, const unsigned char *bytes, size_t count) {
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	for (size_t i = 0; i < count; i += 3) {
		size_t left = count - i;
		unsigned v =
			(unsigned)bytes[i] << 16 | (left > 1 ? (unsigned)bytes[i + 1] << 8 : 0) | (left > 2 ? bytes[i + 2] : 0);
		fputc(digits[v >> 18], f);
		fputc(digits[v >> 12 & 63], f);
		fputc(left > 1 ? digits[v >> 6 & 63] : '=', f);
		fputc(left > 2 ? digits[v & 63] : '=', f);
	}
}

static void put32(unsigned char *at, unsigned value) {
	for (int i = 0; i < 4; i++)
		at[i] = (unsigned char)(value >> 8 * i);
}

/* A BMP of 256 greys, upside down as the format has it, dark where weights are. */
static void image(FILE *f, const picture *p, const char *what) {
	enum { HEAD = 54, PALETTE = 1024 };
	static unsigned char bmp[HEAD + PALETTE + SIDE * SIDE];
	unsigned stride = ((unsigned)p->cols + 3) / 4 * 4, bytes = HEAD + PALETTE + stride * (unsigned)p->rows;
	memset(bmp, 0, sizeof bmp);
	bmp[0] = 'B';
	bmp[1] = 'M';
	put32(bmp + 2, bytes);
	put32(bmp + 10, HEAD + PALETTE);
	put32(bmp + 14, 40);
	put32(bmp + 18, (unsigned)p->cols);
	put32(bmp + 22, (unsigned)p->rows);
	bmp[26] = 1;
	bmp[28] = 8;
	put32(bmp + 34, stride * (unsigned)p->rows);
	for (unsigned i = 0; i < 256; i++)
		put32(bmp + HEAD + 4 * i, (255 - i) * 0x010101u);
	for (int r = 0; r < p->rows; r++)
		memcpy(bmp + HEAD + PALETTE + stride * (unsigned)(p->rows - 1 - r), p->shade + r * SIDE, (size_t)p->cols);
	fprintf(f, "<figure><img alt=\"%s\" src=\"data:image/bmp;base64,", what);
	base64(f, bmp, bytes);
	fprintf(f, "\"><figcaption>%s</figcaption></figure>", what);
}

static void charts(FILE *f, const report *r, const sl_model *model, sl_context *context) {
	size_t points = (size_t)r->count;
	double *memory = calloc(4 * points + (size_t)r->layers * points + 1, sizeof *memory);
	line *lines = calloc((size_t)r->layers + 1, sizeof *lines);
	if (memory && lines && points) {
		for (size_t i = 0; i < points; i++) {
			memory[i] = r->epochs[i].loss;
			memory[points + i] = r->epochs[i].validation_loss;
			memory[2 * points + i] = r->epochs[i].accuracy;
			memory[3 * points + i] = r->epochs[i].validation_accuracy;
			for (int l = 0; l < r->layers; l++)
				memory[(4 + (size_t)l) * points + i] = r->density[i * (size_t)r->layers + (size_t)l];
		}
		int first = (int)r->epochs[0].epoch + 1;
		chart(f, "Loss", (line[]){{"training", memory}, {r->watched, memory + points}}, 2, r->count, first);
		chart(f, "Accuracy", (line[]){{"training", memory + 2 * points}, {r->watched, memory + 3 * points}}, 2,
			  r->count, first);
		for (int l = 0; l < r->layers; l++) {
			sl_layer_info info = {.struct_size = sizeof info};
			bool ok = sl_layer_get_info(context, sl_model_layer(model, l), &info) == SL_OK;
			lines[l] = (line){ok ? info.name : "", memory + (4 + (size_t)l) * points};
		}
		chart(f, "Density by layer", lines, r->layers, r->count, first);
	}
	free(memory);
	free(lines);
}

static void layers(FILE *f, const report *r, sl_context *context, const sl_model *model) {
	fputs("<h2>Patterns</h2><p>Where weights are, outputs down and inputs across (of a layer of sparse inputs the "
		  "other way round); the darker, the "
		  "more. A dense layer is "
		  "black.</p>\n",
		  f);
	for (int i = 0; i < r->layers && i < sl_model_layer_count(model); i++) {
		static picture after;
		sl_layer_info info = {.struct_size = sizeof info};
		if (sl_layer_get_info(context, sl_model_layer(model, i), &info) != SL_OK ||
			!take_picture(context, sl_model_layer(model, i), &after))
			continue;
		fputs("<h3>", f);
		text(f, info.name);
		fprintf(f, "</h3><p>%lld x %lld, %lld weights (%.4g%%), %lld neurons without any</p><div class=\"row\">",
				(long long)info.out_features, (long long)info.in_features, (long long)info.nnz, 100 * info.density,
				(long long)info.empty_rows);
		image(f, &r->before[i], "before");
		image(f, &after, "after");
		fputs("</div>\n", f);
	}
}

static void times(FILE *f, sl_context *context) {
	double all = 0;
	sl_op_time t = {.struct_size = sizeof t};
	for (int i = 0; i < sl_context_op_time_count(); i++)
		if (sl_context_op_time(context, i, &t) == SL_OK)
			all += t.seconds;
	if (!(all > 0))
		return;
	fputs("<h2>Time by op</h2><table><tr><th>op</th><th>calls</th><th>seconds</th><th colspan=\"2\">share</th></tr>\n",
		  f);
	for (int i = 0; i < sl_context_op_time_count(); i++)
		if (sl_context_op_time(context, i, &t) == SL_OK && t.calls)
			fprintf(f,
					"<tr><td>%s</td><td>%lld</td><td>%.3f</td><td>%.1f%%</td><td class=\"bar\"><span "
					"style=\"width:%.1f%%\"></span></td></tr>\n",
					t.name, (long long)t.calls, t.seconds, 100 * t.seconds / all, 100 * t.seconds / all);
	fputs("</table><p>Wall time inside ops, evaluation included; RigL's scores are gemm or largest of a product.</p>\n",
		  f);
}

/* A share as a cell; a loss that has no accuracy leaves it empty. */
static void percent(FILE *f, double share) {
	if (isfinite(share))
		fprintf(f, "<td>%.2f%%</td>", 100 * share);
	else
		fputs("<td></td>", f);
}

static void epochs(FILE *f, const report *r) {
	fprintf(f,
			"<h2>Epochs</h2><table><tr><th>epoch</th><th>loss</th><th>accuracy</th><th>%s loss</th><th>%s accuracy</th>"
			"<th>learning rate</th><th>seconds</th></tr>\n",
			r->watched, r->watched);
	for (int i = 0; i < r->count; i++) {
		const sl_epoch *e = &r->epochs[i];
		fprintf(f, "<tr><td>%lld</td><td>%.4f</td>", (long long)e->epoch + 1, e->loss);
		percent(f, e->accuracy);
		fprintf(f, "<td>%.4f</td>", e->validation_loss);
		percent(f, e->validation_accuracy);
		fprintf(f, "<td>%.3g</td><td>%.2f</td></tr>\n", e->learning_rate, e->seconds);
	}
	fputs("</table>\n", f);
}

bool report_write(report *r, sl_context *context, const sl_model *model, const char *path, int argc, char **argv) {
	FILE *f = fopen(path, "w");
	if (!f)
		return false;
	fputs(
		"<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"Content-Security-Policy\" "
		"content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\"><title>Training report</title><style>"
		"body{font:15px/1.5 system-ui,sans-serif;max-width:72em;margin:2em auto;padding:0 1em}figure{margin:1em 0}"
		"svg{width:100%;max-width:560px;font-size:11px}.grid{stroke:#ccc;fill:none}.tick{text-anchor:end}"
		"table{border-collapse:collapse}td,th{padding:.1em .7em;text-align:right;border-bottom:1px solid #ddd}"
		"img{width:256px;image-rendering:pixelated;border:1px solid #ccc}.row{display:flex;gap:2em}"
		".bar{width:16em;text-align:left}.bar span{display:inline-block;height:.8em;background:#1f77b4}</style></head>"
		"<body><h1>Training report</h1><p><code>sparselayer",
		f);
	for (int i = 0; i < argc; i++) {
		fputc(' ', f);
		text(f, argv[i]);
	}
	fputs("</code></p><p>", f);
	text(f, sl_context_describe(context));
	fprintf(f, "; sparselayer %s</p>\n", sl_version_string());
	charts(f, r, model, context);
	layers(f, r, context, model);
	times(f, context);
	epochs(f, r);
	fputs("</body></html>\n", f);
	bool failed = ferror(f) != 0;
	int error = errno;
	if (fclose(f) != 0)
		return false;
	errno = error;
	return !failed;
}
