# SPDX-License-Identifier: Apache-2.0
"""A training step of a dense multi-layer perceptron in PyTorch: fused Adam, eager and compiled.
case IN,HIDDEN,...,OUT BATCH [eager]"""
import peer


def load():
    global torch
    import warnings

    import torch

    warnings.filterwarnings("ignore")
    torch.set_num_threads(peer.THREADS)
    torch.manual_seed(1)
    return f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads"


class Network:
    def __init__(self, sizes, batch, eager=None):
        self.sizes = [int(size) for size in sizes.split(",")]
        self.batch = int(batch)
        self.compiled = eager is None


def stepper(network, compiled):
    layers = []
    for inputs, outputs in zip(network.sizes, network.sizes[1:]):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    x = torch.rand(network.batch, network.sizes[0]) * (torch.rand(network.batch, network.sizes[0]) < 0.5)
    labels = torch.randint(network.sizes[-1], (network.batch,))

    def loss_of(inputs, targets):
        return torch.nn.functional.cross_entropy(model(inputs), targets)

    if compiled:
        loss_of = torch.compile(loss_of)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(x, labels)
        loss.backward()
        optimizer.step()
        return loss

    first = float(step())
    for _ in range(10):
        last = float(step())
    if not last < first:
        raise RuntimeError(f"does not learn: loss {first}, then {last}")
    return step


def prepare(network):
    variants = [("eager", stepper(network, False), None)]
    try:
        if network.compiled:
            variants.append(("compiled", stepper(network, True), None))
    except Exception as error:  # pylint: disable=broad-except
        print(f"# torch.compile: {error}"[:200])
    return variants


peer.serve(load, prepare, Network)
