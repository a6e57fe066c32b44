"""Fashion-MNIST for the demo and the examples, from the first source that has it.

``load`` tries, in this order: a folder the caller names, the folder of Debian's package
``dataset-fashion-mnist``, a download that is checked and cached, and scikit-learn's digits.

The files are IDX, the format of MNIST: a big-endian u32 magic number (0x0800 + rank, where 08 says
unsigned bytes), one big-endian u32 per dimension, then the bytes in C order.

Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST", 2017; github.com/zalandoresearch/fashion-mnist.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
BASE_URL = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
MD5 = {  # of the official files; the small ones first, so that a dead connection fails at once
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
}
# MNIST's files have the same names and sizes, so the contents tell which data set it is.
FASHION_TEST_LABELS_SHA256 = "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9"
CLASSES = 10
TIMEOUT_S = 15.0


class DatasetError(Exception):
    """The data are not available or are broken; the message is one line that names the file."""


@dataclass(frozen=True)
class Dataset:
    """Images x float32 [n, pixels] in [0, 1], labels y int64 [n] in 0..9.

    ``name`` is the name of the data set, ``source`` a text about where it was found.
    """

    name: str
    source: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def load(data: str | os.PathLike[str] | None = None, *, base_url: str = BASE_URL) -> Dataset:
    """Load Fashion-MNIST; the module's documentation lists the places tried.

    data      folder with the four IDX files, plain or gzipped; nothing else is tried then
    base_url  where the download looks for the four files
    Raises DatasetError if ``data`` is missing or broken, or if every place fails.
    The download is stored in the user's cache folder, or in the one FUSEDROP_DATA names.
    """
    if data is not None:
        return _from_folder(Path(data), f"the folder {data}")
    places: list[Callable[[], Dataset]] = [
        lambda: _from_folder(DEBIAN_FOLDER, f"Debian's dataset-fashion-mnist in {DEBIAN_FOLDER}"),
        lambda: _from_download(base_url),
        _from_digits,
    ]
    reasons: list[str] = []
    for place in places:
        try:
            found = place()
        except DatasetError as error:
            reasons.append(str(error))
        else:
            why = f" (because {'; and '.join(reasons)})" if reasons else ""
            return replace(found, source=found.source + why)
    raise DatasetError(f"no data set can be had: {'; and '.join(reasons)}")


def read_idx(path: Path, rank: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes with ``rank`` dimensions; a name in .gz means gzip.

    Raises DatasetError naming the file, what was wanted and what was got.
    """
    raw = _read_bytes(path)
    header = 4 + 4 * rank
    if len(raw) < header:
        raise DatasetError(f"{path}: wanted an IDX header of {header} bytes, got {len(raw)} bytes")
    magic = int.from_bytes(raw[:4], "big")
    if magic != 0x0800 + rank:
        raise DatasetError(f"{path}: wanted the magic number 0x{0x0800 + rank:08x}, got 0x{magic:08x}")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", rank, offset=4))
    wanted, got = math.prod(shape), len(raw) - header
    if wanted != got:
        sizes = " x ".join(map(str, shape))
        raise DatasetError(f"{path}: wanted {sizes} = {wanted} bytes after the header, got {got}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _read_bytes(path: Path) -> bytes:
    try:
        if path.suffix != ".gz":
            return path.read_bytes()
        with gzip.open(path) as file:
            return file.read()
    except EOFError:
        size = path.stat().st_size
        raise DatasetError(f"{path}: wanted a whole gzip file, got a truncated one ({size} bytes)") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(f"{path}: wanted a gzip file, got one that does not unpack ({error})") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from None


def _from_folder(folder: Path, source: str) -> Dataset:
    if not folder.is_dir():
        what = "a file" if folder.exists() else "nothing"
        raise DatasetError(f"{folder}: wanted a folder with Fashion-MNIST's files, got {what}")
    x_train, y_train = _read_part(folder, "train")
    x_test, y_test = _read_part(folder, "t10k")
    if x_train.shape[1] != x_test.shape[1]:
        raise DatasetError(
            f"{folder}: wanted training and test images of one size, "
            f"got {x_train.shape[1]} and {x_test.shape[1]} pixels"
        )
    digest = hashlib.sha256(y_test.astype(np.uint8).tobytes()).hexdigest()
    fashion = digest == FASHION_TEST_LABELS_SHA256
    name = "Fashion-MNIST" if fashion else f"the images in {folder.resolve().name}"
    return Dataset(name, source, x_train, y_train, x_test, y_test)


def _read_part(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images float32 [n, pixels] and labels int64 [n] of ``train`` or ``t10k``."""
    image_path = _find(folder, f"{part}-images-idx3-ubyte")
    label_path = _find(folder, f"{part}-labels-idx1-ubyte")
    images, labels = read_idx(image_path, 3), read_idx(label_path, 1)
    if images.size == 0:
        raise DatasetError(f"{image_path}: wanted at least one pixel, got images {list(images.shape)}")
    if len(images) != len(labels):
        raise DatasetError(f"{label_path}: wanted {len(images)} labels to match {image_path.name}, got {len(labels)}")
    if labels.max() >= CLASSES:
        raise DatasetError(f"{label_path}: wanted labels 0 to {CLASSES - 1}, got {labels.max()}")
    x = np.divide(images.reshape(len(images), -1), 255, dtype=np.float32)
    return x, labels.astype(np.int64)


def _find(folder: Path, stem: str) -> Path:
    for path in (folder / f"{stem}.gz", folder / stem):
        if path.exists():
            return path
    raise DatasetError(f"{folder / stem}: wanted this file, plain or .gz, got neither")


def _from_download(base_url: str) -> Dataset:
    """Download the files that the cache folder lacks; a file is used only if its checksum is right.

    pooch writes to a temporary name and renames after the checksum, so that a failed or
    interrupted download is never used as the file.
    """
    try:
        import pooch
    except ImportError as error:
        raise DatasetError(f"nothing was downloaded ({_missing(error)})") from None
    # A folder of our own inside the named one: files with a wrong checksum there are overwritten.
    root = Path(os.environ.get("FUSEDROP_DATA") or pooch.os_cache("fusedrop")).expanduser()
    folder = root / "fashion-mnist"
    for name, md5 in MD5.items():
        url = base_url.rstrip("/") + "/" + name
        try:
            get = pooch.HTTPDownloader(progressbar=True, chunk_size=1 << 16, timeout=TIMEOUT_S)
            pooch.retrieve(url, f"md5:{md5}", name, folder, downloader=get)
        except (OSError, ValueError) as error:  # requests' exceptions are OSErrors
            raise DatasetError(f"{url} was not downloaded ({_cause(error)})") from None
    return _from_folder(folder, f"downloaded from {base_url}, kept in {folder}")


def _cause(error: BaseException) -> str:
    """The innermost cause in one line: requests wraps "Connection refused" three times over."""
    while error.__context__ is not None:
        error = error.__context__
    return " ".join(str(error).split(". ")[0].split(" for url")[0].split())


def _from_digits() -> Dataset:
    """scikit-learn's 1797 digits of 8 x 8 pixels, the last 297 for testing.

    They are not shuffled: neighbors are by one writer, who should be in one part only.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DatasetError(f"there are no digits either ({_missing(error)})") from None
    digits = load_digits()
    x = np.ascontiguousarray(digits.data / 16, dtype=np.float32)
    y = digits.target.astype(np.int64)
    source = "scikit-learn's load_digits, 8 x 8 pixels"
    return Dataset("scikit-learn digits", source, x[:1500], y[:1500], x[1500:], y[1500:])


def _missing(error: ImportError) -> str:
    return f"{error.name} is not installed: pip install 'fusedrop[demo]'"
