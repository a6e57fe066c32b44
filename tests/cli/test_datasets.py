"""fusedrop.cli.datasets: good files, every kind of broken file, the download, the order of places."""

import gzip
import hashlib
import http.server
import shutil
import socket
import sys
import threading

import numpy as np
import pytest
from fusedrop.cli import datasets

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def idx(array):
    sizes = np.array(array.shape, ">u4").tobytes()
    return (0x0800 + array.ndim).to_bytes(4, "big") + sizes + array.astype(np.uint8).tobytes()


def write(folder, name, array, packed=True):
    path = folder / (name + ".gz" * packed)
    path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))


def write_folder(folder, packed=True):
    """Six training and three test images of 4 x 5 pixels; returns the four arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(1).integers(0, 256, (9, 4, 5))
    labels = np.array([3, 1, 9, 0, 5, 5, 2, 9, 0])
    arrays = pixels[:6], labels[:6], pixels[6:], labels[6:]
    names = TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS
    for name, array in zip(names, arrays, strict=True):
        write(folder, name, array, packed)
    return arrays


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path / "small")
    return tmp_path / "small"


@pytest.mark.parametrize("packed", [True, False], ids=["gzipped", "plain"])
def test_a_good_folder_is_read_exactly(tmp_path, packed):
    images, labels, test_images, test_labels = write_folder(tmp_path, packed)
    data = datasets.load(tmp_path)
    for x, want in ((data.x_train, images), (data.x_test, test_images)):
        assert x.dtype == np.float32
        assert x.flags.c_contiguous
        np.testing.assert_array_equal(x, want.reshape(len(want), 20).astype(np.float32) / 255)
    for y, want in ((data.y_train, labels), (data.y_test, test_labels)):
        assert y.dtype == np.int64
        np.testing.assert_array_equal(y, want)
    assert str(tmp_path) in data.source


def test_the_name_is_that_of_the_content(folder, monkeypatch):
    assert datasets.load(folder).name == "the images in small"
    digest = hashlib.sha256(bytes([2, 9, 0])).hexdigest()
    monkeypatch.setattr(datasets, "FASHION_TEST_LABELS_SHA256", digest)
    assert datasets.load(folder).name == "Fashion-MNIST"


def cut(folder, name, size):
    path = folder / f"{name}.gz"
    path.write_bytes(path.read_bytes()[:size])


def flip_checksum(folder, name):
    path = folder / f"{name}.gz"
    raw = bytearray(path.read_bytes())
    raw[-8] ^= 1
    path.write_bytes(raw)


def swap_bytes(folder, name, start, new):
    raw = bytearray(gzip.decompress((folder / f"{name}.gz").read_bytes()))
    raw[start : start + len(new)] = new
    (folder / f"{name}.gz").write_bytes(gzip.compress(raw))


def lengthen(folder, name, extra):
    raw = gzip.decompress((folder / f"{name}.gz").read_bytes())
    (folder / f"{name}.gz").write_bytes(gzip.compress(raw + extra))


def replace_by_folder(folder, name):
    (folder / f"{name}.gz").unlink()
    (folder / f"{name}.gz").mkdir()


BROKEN = {
    "missing": (
        lambda f: (f / f"{TEST_LABELS}.gz").unlink(),
        rf"{TEST_LABELS}: wanted this file, plain or \.gz, got neither",
    ),
    "empty": (
        lambda f: (f / f"{TRAIN_IMAGES}.gz").write_bytes(b""),
        rf"{TRAIN_IMAGES}\.gz: wanted an IDX header of 16 bytes, got 0 bytes",
    ),
    "truncated gzip": (
        lambda f: cut(f, TRAIN_IMAGES, 70),
        rf"{TRAIN_IMAGES}\.gz: wanted a whole gzip file, got a truncated one \(70 bytes\)",
    ),
    "not gzip": (
        lambda f: (f / f"{TRAIN_IMAGES}.gz").write_bytes(b"<html>moved</html>"),
        rf"{TRAIN_IMAGES}\.gz: wanted a gzip file, got .*Not a gzipped file \(b'<h'\)",
    ),
    "gzip checksum": (
        lambda f: flip_checksum(f, TEST_IMAGES),
        rf"{TEST_IMAGES}\.gz: wanted a gzip file, got .*CRC check failed",
    ),
    "gzip body": (
        lambda f: (f / f"{TEST_IMAGES}.gz").write_bytes(gzip.compress(b"")[:10] + b"\xff" * 40),
        rf"{TEST_IMAGES}\.gz: wanted a gzip file, got .*invalid",
    ),
    "magic number": (
        lambda f: write(f, TRAIN_IMAGES, np.zeros(9)),
        rf"{TRAIN_IMAGES}\.gz: wanted the magic number 0x00000803, got 0x00000801",
    ),
    "too short": (
        lambda f: swap_bytes(f, TRAIN_IMAGES, 4, (7).to_bytes(4, "big")),
        rf"{TRAIN_IMAGES}\.gz: wanted 7 x 4 x 5 = 140 bytes after the header, got 120",
    ),
    "too long": (
        lambda f: lengthen(f, TEST_LABELS, b"\0"),
        rf"{TEST_LABELS}\.gz: wanted 3 = 3 bytes after the header, got 4",
    ),
    "a huge header": (
        lambda f: swap_bytes(f, TRAIN_IMAGES, 4, b"\xff" * 12),
        rf"{TRAIN_IMAGES}\.gz: wanted 4294967295 x .* bytes after the header, got 120",
    ),
    "label count": (
        lambda f: write(f, TRAIN_LABELS, np.zeros(5)),
        rf"{TRAIN_LABELS}\.gz: wanted 6 labels to match {TRAIN_IMAGES}\.gz, got 5",
    ),
    "label above 9": (
        lambda f: write(f, TEST_LABELS, np.array([0, 10, 1])),
        rf"{TEST_LABELS}\.gz: wanted labels 0 to 9, got 10",
    ),
    "no images": (
        lambda f: write(f, TEST_IMAGES, np.zeros((0, 4, 5))),
        rf"{TEST_IMAGES}\.gz: wanted at least one pixel, got images \[0, 4, 5\]",
    ),
    "image sizes": (
        lambda f: write(f, TEST_IMAGES, np.zeros((3, 4, 4))),
        "wanted training and test images of one size, got 20 and 16 pixels",
    ),
    "a folder for a file": (
        lambda f: replace_by_folder(f, TEST_IMAGES),
        rf"{TEST_IMAGES}\.gz: cannot be read \(Is a directory\)",
    ),
    "no folder": (shutil.rmtree, "wanted a folder with Fashion-MNIST's files, got nothing"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_gives_one_line_with_both_sides(folder, case):
    damage, message = BROKEN[case]
    damage(folder)
    with pytest.raises(datasets.DatasetError, match=message) as raised:
        datasets.load(folder)
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_is_no_folder(folder):
    with pytest.raises(datasets.DatasetError, match="got a file"):
        datasets.load(folder / f"{TRAIN_IMAGES}.gz")


class Server(http.server.ThreadingHTTPServer):
    """Serves the files of a folder on the loopback; ``tamper`` changes what is sent."""

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.requests, self.tamper = folder, [], None
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.lstrip("/")
        self.server.requests.append(name)
        path = self.server.folder / name
        if not path.exists():
            self.send_error(404)
            return
        body = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(self.server.tamper(body) if self.server.tamper else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(folder, tmp_path, monkeypatch):
    """A server of the small files, with their checksums; no Debian folder; an empty cache."""
    sums = {n: hashlib.md5((folder / n).read_bytes()).hexdigest() for n in datasets.MD5}
    monkeypatch.setattr(datasets, "MD5", sums)
    monkeypatch.setattr(datasets, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setenv("FUSEDROP_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def cached(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache" / "fashion-mnist").glob("*"))


def test_download_once_then_use_the_cache(server, tmp_path):
    for _ in range(2):
        data = datasets.load(base_url=server.url)
        np.testing.assert_array_equal(data.y_train, [3, 1, 9, 0, 5, 5])
        assert data.source.startswith(f"downloaded from {server.url}, kept in {tmp_path}")
        assert f"because {tmp_path / 'debian'}: wanted a folder" in data.source
        assert sorted(server.requests) == cached(tmp_path) == sorted(datasets.MD5)


def test_a_damaged_file_in_the_cache_is_fetched_again(server, tmp_path):
    datasets.load(base_url=server.url)
    (tmp_path / "cache" / "fashion-mnist" / f"{TEST_LABELS}.gz").write_bytes(b"damaged")
    server.requests.clear()
    np.testing.assert_array_equal(datasets.load(base_url=server.url).y_test, [2, 9, 0])
    assert server.requests == [f"{TEST_LABELS}.gz"]


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (lambda body: bytes([body[0] ^ 1]) + body[1:], "does not match the known hash: expected"),
        (lambda body: body[:10], "was not downloaded (IncompleteRead(10 bytes read"),
    ],
    ids=["wrong checksum", "connection cut"],
)
def test_a_bad_download_leaves_nothing_and_the_digits_step_in(server, tmp_path, tamper, reason):
    server.tamper = tamper
    data = datasets.load(base_url=server.url)
    assert data.name == "scikit-learn digits"
    assert f"{server.url}/{TEST_LABELS}.gz was not downloaded" in data.source
    assert reason in data.source
    assert cached(tmp_path) == []

    server.tamper = None
    assert datasets.load(base_url=server.url).source.startswith("downloaded")


def test_a_missing_page_is_not_taken_for_a_file(server, tmp_path):
    (server.folder / f"{TRAIN_IMAGES}.gz").unlink()
    assert "404 Client Error" in datasets.load(base_url=server.url).source
    assert f"{TRAIN_IMAGES}.gz" not in cached(tmp_path)


def test_an_interrupted_download_leaves_nothing(server, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tqdm.tqdm.update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        datasets.load(base_url=server.url)
    assert server.requests == [f"{TEST_LABELS}.gz"]
    assert cached(tmp_path) == []


def test_debian_comes_first(server):
    write_folder(datasets.DEBIAN_FOLDER)
    data = datasets.load(base_url=server.url)
    assert data.source == f"Debian's dataset-fashion-mnist in {datasets.DEBIAN_FOLDER}"
    assert server.requests == []


def test_a_broken_debian_folder_is_passed_over_and_said(server):
    write_folder(datasets.DEBIAN_FOLDER)
    cut(datasets.DEBIAN_FOLDER, TEST_LABELS, 12)
    data = datasets.load(base_url=server.url)
    assert data.source.startswith("downloaded")
    assert "got a truncated one" in data.source


def refusing_url():
    """An address on the loopback without a server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_digits_are_last_and_say_why(server):
    data = datasets.load(base_url=refusing_url())
    assert (data.name, data.x_train.shape, data.x_test.shape) == (
        "scikit-learn digits",
        (1500, 64),
        (297, 64),
    )
    assert data.x_train.dtype == data.x_test.dtype == np.float32
    assert (data.x_train.min(), data.x_train.max()) == (0, 1)
    assert set(data.y_train) == set(data.y_test) == set(range(10))
    assert data.y_train.dtype == np.int64
    assert "wanted a folder" in data.source
    assert "Connection refused" in data.source


def test_nothing_to_be_had_names_every_place(server, monkeypatch):
    for module in ("pooch", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(datasets.DatasetError) as raised:
        datasets.load(base_url=server.url)
    message = str(raised.value)
    assert "\n" not in message
    assert "debian: wanted a folder" in message
    assert "pooch is not installed: pip install 'fusedrop[demo]'" in message
    assert "sklearn.datasets is not installed: pip install 'fusedrop[demo]'" in message
    assert server.requests == []
