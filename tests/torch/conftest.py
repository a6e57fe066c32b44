"""A new cache of compiled graphs for each run: PyTorch's own cache may hold graphs of other versions of the sources."""

import os
import tempfile

_cache = tempfile.TemporaryDirectory(prefix="fusedrop-inductor-")
os.environ["TORCHINDUCTOR_CACHE_DIR"] = _cache.name
