"""One training step of the Fashion-MNIST network, 784-256-256-10, relu, dropout .2 and .5, SGD, batch 256.

    python -m bench.training.bench_training [--peers torch,torch.compile,jax] [--threads N] [--json FILE]

A step is forward, softmax cross-entropy, backward and update, on random data. Before timing, the loss of every
framework must fall. Figures are interleaved medians. "torch without dropout" tests the claim that dropout is free.
"""

from __future__ import annotations

import argparse
import itertools
import sys

from bench.support.harness import interleaved, print_machine, write_json

# isort: split
# The harness is imported before NumPy: it sets how soon OpenBLAS's threads go to sleep.
import fusedrop as fd
import numpy as np

from bench.support.peers import installed

SIZES, RATES, BATCH, LR = (784, 256, 256, 10), (0.2, 0.5, 0.0), 256, 0.5


def batch():
    rng = np.random.default_rng(0)
    return rng.standard_normal((BATCH, SIZES[0]), np.float32), rng.integers(0, SIZES[-1], BATCH)


def weights():
    rng = np.random.default_rng(1)
    return [rng.standard_normal((n, k), np.float32) * 0.01 for k, n in itertools.pairwise(SIZES)]


def fusedrop_step(dropout: bool):
    layers = [
        fd.Linear(k, n, activation="relu" if i < 2 else "identity", p=RATES[i] if dropout else 0.0)
        for i, (k, n) in enumerate(itertools.pairwise(SIZES))
    ]
    net = fd.Sequential(*layers, seed=1)
    for layer, w in zip(layers, weights(), strict=True):
        layer.params["weight"][:] = w
    optimizer = fd.training.SGD(net.parameters(), lr=LR)
    x, labels = batch()

    def step():
        loss, gradient = fd.softmax_cross_entropy(net.forward(x), labels)
        net.backward(gradient, input_grad=False)
        optimizer.step()
        return loss

    return step


def torch_step(dropout: bool, compiled: bool):
    import torch

    torch.set_num_threads(fd.config.get_num_threads())
    modules: list[torch.nn.Module] = []
    for i, w in enumerate(weights()):
        linear = torch.nn.Linear(w.shape[1], w.shape[0])
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(w))
            linear.bias.zero_()
        modules.append(linear)
        if i < 2:
            modules.append(torch.nn.ReLU())
            modules += [torch.nn.Dropout(RATES[i])] if dropout else []
    net = torch.nn.Sequential(*modules)
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)
    x, labels = (torch.from_numpy(a) for a in batch())

    def loss_of(x, labels):
        return torch.nn.functional.cross_entropy(net(x), labels)

    loss_of = torch.compile(loss_of) if compiled else loss_of

    def step():
        optimizer.zero_grad()
        loss = loss_of(x, labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def jax_step():
    import jax
    import jax.numpy as jnp

    parameters = [(jnp.asarray(w), jnp.zeros(w.shape[0])) for w in weights()]
    x, labels = (jnp.asarray(a) for a in batch())

    def loss_of(parameters, key):
        y = x
        for i, (w, b) in enumerate(parameters):
            y = y @ w.T + b
            if i < 2:
                key, now = jax.random.split(key)
                y = jnp.where(jax.random.bernoulli(now, 1 - RATES[i], y.shape), jax.nn.relu(y) / (1 - RATES[i]), 0)
        return -jnp.take_along_axis(jax.nn.log_softmax(y), labels[:, None], axis=1).mean()

    @jax.jit
    def update(parameters, key):
        key, now = jax.random.split(key)
        loss, gradients = jax.value_and_grad(loss_of)(parameters, now)
        return loss, jax.tree.map(lambda p, g: p - LR * g, parameters, gradients), key

    state = [parameters, jax.random.key(0)]

    def step():
        loss, *state[:] = update(*state)
        return float(loss)

    return step


def candidates(peers: list[str]) -> dict:
    """The training steps to time, by name."""
    steps = {"fusedrop": fusedrop_step(True), "fusedrop without dropout": fusedrop_step(False)}
    if "torch" in peers:
        steps |= {"torch": torch_step(True, False), "torch without dropout": torch_step(False, False)}
    if "torch.compile" in peers:
        steps["torch.compile"] = torch_step(True, True)
    if "jax" in peers:
        steps["jax"] = jax_step()
    return steps


def check(steps: dict) -> None:
    """In every framework the loss must start at ln 10 and fall on a repeated batch."""
    for name, step in steps.items():
        first = step()
        last = [step() for _ in range(200)][-1]
        if not (abs(first - np.log(SIZES[-1])) < 0.1 and last < 0.8 * first):
            sys.exit(f"nothing timed: {name}'s loss went from {first:.3f} to {last:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default="torch,torch.compile,jax")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--json", help="write the figures there")
    options = parser.parse_args()
    fd.config.set_num_threads(options.threads)
    present, absent = installed([name for name in options.peers.split(",") if name])
    print_machine()
    print(f"peers: {', '.join(present) or 'none'}" + (f"; absent: {', '.join(absent)}" if absent else ""))
    steps = candidates(present)
    check(steps)
    times = {name: seconds * 1e6 for name, seconds in interleaved(steps).items()}
    ratios = {name: t / times["fusedrop"] for name, t in times.items()}
    for name, t in times.items():
        print(f"{name:26s} {t:9.1f} us a step   / fusedrop {ratios[name]:.3f}")
    if options.json:
        write_json(options.json, us=times, ratios=ratios, absent=absent)


if __name__ == "__main__":
    main()
