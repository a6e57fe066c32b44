"""Compiled graphs are kept on disk from run to run: the tests must not get those of another version of the sources."""

import os
import tempfile

_cache = tempfile.TemporaryDirectory(prefix="fusedrop-inductor-")
os.environ["TORCHINDUCTOR_CACHE_DIR"] = _cache.name
