"""How a layer names its masks and draws its weights."""

from __future__ import annotations

import itertools
import secrets

import numpy as np

from fusedrop._core import Philox

_unplaced_streams = itertools.count()


class MaskName:
    """A layer's (seed, stream, step): the step counts its training calls.

    seed: an integer in [0, 2^64), or None for one from the system's entropy.
    stream: an integer in [0, 2^32), or None. Without one, a `Sequential` numbers its layers by position, which
        makes a seeded network reproducible end to end; a layer on its own takes the process's next number, so no
        two layers share a mask by accident. Pass stream= to reproduce the masks of a layer on its own.

    Weights are drawn from the seed and the stream given or assigned by a network (0 for a layer on its own).
    """

    def __init__(self, seed: int | None = None, stream: int | None = None):
        self.seed_given, self.stream_given = seed is not None, stream is not None
        self._weight_key = stream if stream is not None else 0
        self.rng = Philox(
            secrets.randbits(64) if seed is None else seed,
            next(_unplaced_streams) if stream is None else stream,
        )

    def place(self, seed: int | None, stream: int) -> None:
        """A network's assignment: fills in what the layer was not given itself, and starts at step 0.

        A seed from an inner network counts as given: an outer one's does not replace it.
        """
        if seed is None or self.seed_given:
            seed = self.rng.seed
        else:
            self.seed_given = True
        stream = self.rng.stream if self.stream_given else stream
        self._weight_key = stream
        self.rng = Philox(seed, stream)

    def following(self, train: bool) -> Philox:
        """The name to go on with once a call has succeeded; fails before any work where the steps are used up."""
        return self.rng.next() if train else self.rng

    def weight_generator(self) -> np.random.Generator:
        """NumPy's generator for the initial weights: independent of the masks, fixed by seed and stream."""
        return np.random.default_rng([self.rng.seed, self._weight_key])
