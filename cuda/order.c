/* SPDX-License-Identifier: Apache-2.0 */
/* Events, waiting, and what may not be done while the stream captures a graph. */
#include "device.h"

#include <unistd.h>

static cudaError_t capture_status(const sl_cuda *cuda, bool *capturing) {
	enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
	*capturing = false;
	/* The legacy stream cannot capture, and asking it while another stream does is an error. */
	cudaError_t error = cuda->stream == cudaStreamLegacy ? cudaSuccess : cudaStreamIsCapturing(cuda->stream, &status);
	*capturing = error == cudaSuccess && status != cudaStreamCaptureStatusNone;
	return error;
}

bool sli_cuda_capturing(void *device) {
	const sl_cuda *cuda = device;
	bool capturing = false;
	if (getpid() == cuda->process && !cuda->lost)
		sli_cuda_forget(cuda, capture_status(cuda, &capturing));
	return capturing;
}

sl_status sli_cuda_not_capturing(const sl_cuda *cuda, const char *what) {
	bool capturing;
	SL_TRY(sli_cuda_check(cuda, capture_status(cuda, &capturing), "cudaStreamIsCapturing"));
	if (!capturing)
		return SL_OK;
	return cuda->host->fail(cuda->host->user, SL_ERR_STATE,
							"this would %s while the stream captures a graph: prepare model, layer or plan before",
							what);
}

sl_status sli_cuda_event_create(void *device, void **event) {
	sl_cuda *cuda = device;
	cudaEvent_t created = NULL;
	*event = NULL;
	int previous;
	SL_TRY(sli_cuda_enter(cuda, &previous));
	sl_status status =
		sli_cuda_check(cuda, cudaEventCreateWithFlags(&created, cudaEventDisableTiming), "cudaEventCreateWithFlags");
	sli_cuda_leave(previous);
	*event = created;
	return status;
}

void sli_cuda_event_destroy(void *device, void *event) {
	const sl_cuda *cuda = device;
	if (event && getpid() == cuda->process)
		sli_cuda_forget(cuda, cudaEventDestroy((cudaEvent_t)event));
}

sl_status sli_cuda_event_record(void *device, void *event) {
	sl_cuda *cuda = device;
	int previous;
	SL_TRY(sli_cuda_enter(cuda, &previous));
	sl_status status = sli_cuda_check(cuda, cudaEventRecord((cudaEvent_t)event, cuda->stream), "cudaEventRecord");
	sli_cuda_leave(previous);
	return status;
}

sl_status sli_cuda_event_wait(void *device, void *event, bool on_host) {
	sl_cuda *cuda = device;
	int previous;
	SL_TRY(sli_cuda_enter(cuda, &previous));
	sl_status status = on_host ? sli_cuda_not_capturing(cuda, "wait") : SL_OK;
	if (status == SL_OK)
		status = sli_cuda_check(cuda,
								on_host ? cudaEventSynchronize((cudaEvent_t)event)
										: cudaStreamWaitEvent(cuda->stream, (cudaEvent_t)event, 0),
								on_host ? "cudaEventSynchronize" : "cudaStreamWaitEvent");
	sli_cuda_leave(previous);
	return status;
}

sl_status sli_cuda_synchronize(void *device) {
	sl_cuda *cuda = device;
	int previous;
	SL_TRY(sli_cuda_enter(cuda, &previous));
	sl_status status = sli_cuda_not_capturing(cuda, "wait");
	if (status == SL_OK)
		status = sli_cuda_check(cuda, cudaStreamSynchronize(cuda->stream), "cudaStreamSynchronize");
	sli_cuda_leave(previous);
	return status;
}

/* The pair's time, once both are passed. */
static sl_status elapsed(const sl_cuda *cuda, cudaEvent_t begin, cudaEvent_t end, double *seconds) {
	float milliseconds = 0;
	SL_TRY(sli_cuda_check(cuda, cudaEventSynchronize(end), "cudaEventSynchronize"));
	SL_TRY(sli_cuda_check(cuda, cudaEventElapsedTime(&milliseconds, begin, end), "cudaEventElapsedTime"));
	*seconds = (double)milliseconds * 1e-3;
	return SL_OK;
}

sl_status sli_cuda_time(void *device, sl_status (*run)(void *argument), void *argument, double *seconds) {
	sl_cuda *cuda = device;
	cudaEvent_t begin = NULL, end = NULL;
	int previous;
	SL_TRY(sli_cuda_enter(cuda, &previous));
	sl_status status = sli_cuda_not_capturing(cuda, "measure");
	if (status == SL_OK)
		status = sli_cuda_check(cuda, cudaEventCreateWithFlags(&begin, 0), "cudaEventCreateWithFlags");
	if (status == SL_OK)
		status = sli_cuda_check(cuda, cudaEventCreateWithFlags(&end, 0), "cudaEventCreateWithFlags");
	if (status == SL_OK)
		status = sli_cuda_check(cuda, cudaEventRecord(begin, cuda->stream), "cudaEventRecord");
	if (status == SL_OK)
		status = run(argument);
	if (status == SL_OK)
		status = sli_cuda_check(cuda, cudaEventRecord(end, cuda->stream), "cudaEventRecord");
	if (status == SL_OK)
		status = elapsed(cuda, begin, end, seconds);
	if (begin)
		sli_cuda_forget(cuda, cudaEventDestroy(begin));
	if (end)
		sli_cuda_forget(cuda, cudaEventDestroy(end));
	sli_cuda_leave(previous);
	return status;
}
