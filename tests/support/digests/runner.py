"""Runs cases on every instruction set and number of threads, and makes lines of their results."""

import importlib
import sys

import numpy as np

from digests import api
from digests.case import digest

# topic: its module
TOPICS = {
    "linear": "digests.cases.linear",
    "conv2d": "digests.cases.conv2d",
    "lstm": "digests.cases.lstm",
    "pooling": "digests.cases.pooling",
    "elementwise": "digests.cases.elementwise",
    "training": "digests.cases.training",
    "layers": "digests.cases.layers",
    "networks": "digests.cases.networks",
    "trainers": "digests.cases.trainers",
    "saving": "digests.cases.saving",
    "specification": "digests.cases.specification",
    "torch_functions": "digests.cases.torch.functions",
    "torch_models": "digests.cases.torch.models",
}
THREADS = (1, 2)  # a call uses the second thread only where it has enough work


def imported(module):
    """The module; None, and a line on stderr, where it needs PyTorch and PyTorch is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if "torch" not in module or error.name != "torch":
            raise
        print(f"digest: {module} is left out: {error}", file=sys.stderr)
        return None


def cases_of(topic):
    """The cases of one topic."""
    module = imported(TOPICS[topic])
    return [] if module is None else module.cases()


def lines(topics, isas):
    """{key: sha256} of all cases of the topics."""
    found = {}
    for topic in topics:
        for case in cases_of(topic):
            for key, value in _lines_of(topic, case, isas):
                if key in found:
                    raise AssertionError(f"two results have the key {key}")
                found[key] = value
    api.use(api.isas()[-1], 0)
    return found


def _lines_of(topic, case, isas):
    """(key, sha256) of every result of a case. The results must be the same for every number of threads."""
    with np.errstate(all="ignore"):
        run = case.prepare()
        for isa in isas if case.every_isa else ["any"]:
            by_threads = [_digests(run, isa, threads) for threads in (THREADS if case.every_isa else THREADS[:1])]
            for name, value in by_threads[0].items():
                key = f"{isa}/{topic}/{case.key}/{name}"
                if any(other[name] != value for other in by_threads[1:]):
                    raise AssertionError(f"{key} depends on the number of threads")
                yield key, value


def _digests(run, isa, threads):
    api.use(api.isas()[-1] if isa == "any" else isa, threads)
    return {name: digest(value) for name, value in run().items()}
