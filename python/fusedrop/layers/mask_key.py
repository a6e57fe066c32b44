"""The mask key of a layer, and the generator of its initial weights."""

from __future__ import annotations

import itertools
import secrets

import numpy as np

from fusedrop._core import Philox

_free_streams = itertools.count()


class MaskKey:
    """A layer's (seed, stream, step) as `rng`, a `Philox`: the step counts the layer's training calls.

    seed: an integer in [0, 2^64), or None for one from the system's entropy.
    stream: an integer in [0, 2^32), or None. Without one, a `Sequential` numbers its layers by position, which
        makes a seeded network reproducible end to end; a layer outside a network takes the process's next number, so
        that no two layers share a mask by accident. Pass stream= to reproduce the masks of such a layer.

    Initial weights depend on the seed and on the stream, given or assigned by a network (0 outside a network).
    """

    def __init__(self, seed: int | None = None, stream: int | None = None):
        self.seed_given, self.stream_given = seed is not None, stream is not None
        self._weight_key = stream if stream is not None else 0
        self.rng = Philox(
            secrets.randbits(64) if seed is None else seed,
            next(_free_streams) if stream is None else stream,
        )

    def place(self, seed: int | None, stream: int) -> None:
        """Set the seed and stream that a network assigns, where the layer was given none, and go to step 0.

        A seed from an inner network counts as given: an outer network does not replace it.
        """
        if seed is None or self.seed_given:
            seed = self.rng.seed
        else:
            self.seed_given = True
        stream = self.rng.stream if self.stream_given else stream
        self._weight_key = stream
        self.rng = Philox(seed, stream)

    def following(self, train: bool) -> Philox:
        """The key after a successful call: the next step in training. Raises before any work if no step is left."""
        return self.rng.next() if train else self.rng

    def weight_generator(self) -> np.random.Generator:
        """NumPy's generator of the initial weights: a function of seed and stream, independent of the masks."""
        return np.random.default_rng([self.rng.seed, self._weight_key])
