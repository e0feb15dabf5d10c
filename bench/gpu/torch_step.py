# SPDX-License-Identifier: Apache-2.0
"""PyTorch's dense training step 4096-4096-4096, batch 2048, replayed by a CUDA graph: float32 without TF32, with it, and
bfloat16. What the sparse step is to be compared with (gpu.step.vs_torch)."""
import statistics

import torch

SIZE, BATCH, REPLAYS = 4096, 2048, 20


def step_seconds(dtype: torch.dtype, tf32: bool) -> float:
    torch.backends.cuda.matmul.allow_tf32 = tf32
    model = torch.nn.Sequential(
        torch.nn.Linear(SIZE, SIZE), torch.nn.ReLU(), torch.nn.Linear(SIZE, SIZE)
    ).to("cuda", dtype)
    optimizer = torch.optim.Adam(model.parameters(), capturable=True)
    x = torch.randn(BATCH, SIZE, device="cuda", dtype=dtype)
    labels = torch.randint(SIZE, (BATCH,), device="cuda")

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(x).float(), labels).backward()
        optimizer.step()

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    times = []
    for _ in range(REPLAYS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e-3)
    return statistics.median(times)


for name, dtype, tf32 in (("f32", torch.float32, False), ("tf32", torch.float32, True), ("bf16", torch.bfloat16, False)):
    print(f"torch dense step {SIZE}-{SIZE}-{SIZE} batch {BATCH} {name}: {step_seconds(dtype, tf32) * 1e3:.3f} ms")
