"""fusedrop.cli.demo: the training loop, its two files, and every error that can stop it."""

import gzip
import io
import json
import math

import fusedrop as fd
import numpy as np
import pytest
from fusedrop.__main__ import main
from fusedrop.cli import datasets, demo
from matplotlib.image import imread

CURVES = {"train_loss", "train_accuracy", "test_accuracy"}


def write_idx(path, array):
    sizes = np.array(array.shape, ">u4").tobytes()
    magic = (0x0800 + array.ndim).to_bytes(4, "big")
    path.write_bytes(gzip.compress(magic + sizes + array.astype(np.uint8).tobytes()))


@pytest.fixture
def folder(tmp_path):
    """70 training and 30 test images of 6 x 6 pixels: no whole number of batches of 32."""
    path = tmp_path / "data"
    path.mkdir()
    rng = np.random.default_rng(2)
    for part, n in (("train", 70), ("t10k", 30)):
        write_idx(path / f"{part}-images-idx3-ubyte.gz", rng.integers(0, 256, (n, 6, 6)))
        write_idx(path / f"{part}-labels-idx1-ubyte.gz", np.arange(n) % 10)
    return path


def run(folder, out, *more):
    return main(["demo", "--data", str(folder), "--out", str(out), "--epochs", "1", *more])


def test_a_run_writes_the_picture_and_the_numbers(folder, tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert run(folder, out, "--epochs", "3") == 0

    record = json.loads((out / "demo.json").read_text())
    assert set(record) == {"dataset", "runs", "seconds"}
    assert record["dataset"] == "the images in data"
    assert record["seconds"] > 0
    assert set(record["runs"]) == {"dropout", "plain"}
    for curves in record["runs"].values():
        assert set(curves) == CURVES
        for values in curves.values():
            assert len(values) == 3
            assert all(math.isfinite(value) for value in values)
        assert all(0 <= value <= 1 for value in curves["train_accuracy"] + curves["test_accuracy"])

    pixels = imread(out / "demo.png")
    assert pixels.shape[0] > 400
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 10
    assert sorted(path.name for path in out.iterdir()) == ["demo.json", "demo.png"]

    text, bars = capsys.readouterr()
    assert text.startswith(f"data: the images in data, from the folder {folder}\n")
    assert f"{record['runs']['plain']['test_accuracy'][-1]:.4f}" in text
    assert str(out / "demo.png") in text
    assert str(out / "demo.json") in text
    for name in ("dropout", "plain  "):
        assert f"{name} epoch 3/3" in bars
    assert "loss " in bars
    assert "test " in bars


def curves(folder, out, *more):
    assert run(folder, out, *more) == 0
    return json.loads((out / "demo.json").read_text())["runs"]


def test_the_seed_decides_everything(folder, tmp_path):
    first = curves(folder, tmp_path / "out", "--seed", "3")
    assert curves(folder, tmp_path / "out", "--seed", "3") == first
    other = curves(folder, tmp_path / "out", "--seed", "4")
    assert other["dropout"]["train_loss"] != first["dropout"]["train_loss"]
    assert other["plain"]["train_loss"] != first["plain"]["train_loss"]


@pytest.fixture
def epochs_seen(folder, monkeypatch):
    """Trains two epochs and gives, for each, the batches and the weights it started from."""
    data = datasets.load(folder)
    train_epoch = demo.train_epoch

    def train(name, seed):
        seen = []

        def spy(net, sgd, x, y, batches):
            kept = [rows.tolist() for rows in batches]
            seen.append((kept, [parameter.value.copy() for parameter in net.parameters()]))
            return train_epoch(net, sgd, x, y, [np.array(rows) for rows in kept])

        monkeypatch.setattr(demo, "train_epoch", spy)
        demo.train(name, data, epochs=2, seed=seed)
        return seen

    return train


def test_both_runs_start_alike_and_see_the_same_batches(epochs_seen):
    dropout, plain = epochs_seen("dropout", 1), epochs_seen("plain", 1)
    assert [batches for batches, _ in dropout] == [batches for batches, _ in plain]
    for value, other in zip(dropout[0][1], plain[0][1], strict=True):
        np.testing.assert_array_equal(value, other)


def test_each_epoch_sees_every_image_once_in_a_new_order(epochs_seen):
    (first, _), (second, _) = epochs_seen("plain", 1)
    assert first != second
    for batches in (first, second):
        assert [len(rows) for rows in batches] == [24, 23, 23]  # none is short
        assert sorted(np.concatenate(batches)) == list(range(70))


def test_weights_are_normal_and_biases_zero(epochs_seen):
    values = epochs_seen("plain", 1)[0][1]
    weights = [value for value in values if value.ndim == 2]
    assert [w.shape for w in weights] == [(256, 36), (256, 256), (10, 256)]
    for w in weights:
        assert abs(w.std() / 0.01 - 1) < 5 / math.sqrt(2 * w.size)  # five standard errors
    biases = [value for value in values if value.ndim == 1]
    assert len(biases) == 3
    assert not any(bias.any() for bias in biases)


def test_the_seed_decides_weights_and_order(epochs_seen):
    batches, weights = epochs_seen("plain", 1)[0]
    other_batches, other_weights = epochs_seen("plain", 2)[0]
    assert batches != other_batches
    assert not np.array_equal(weights[0], other_weights[0])


def test_the_gradient_of_the_images_is_not_computed(folder, monkeypatch):
    gradients, backward = [], fd.Sequential.backward

    def spy(*args, **options):
        gradients.append(backward(*args, **options))
        return gradients[-1]

    monkeypatch.setattr(fd.Sequential, "backward", spy)
    demo.train("plain", datasets.load(folder), epochs=1, seed=0)
    assert gradients == [None] * 3


def test_the_rates_are_those_of_the_text(folder):
    for name, rates in (("dropout", [0.2, 0.5, 0.0]), ("plain", [0.0, 0.0, 0.0])):
        net = demo.build(36, demo.RATES[name], seed=0)
        assert [layer.p for layer in net.layers] == rates


def test_the_epoch_average_weighs_a_short_batch_less(folder):
    data = datasets.load(folder)
    net = demo.build(36, (0.0, 0.0), seed=5)
    rows = np.arange(70)
    still = fd.training.SGD(net.parameters(), lr=1e-30)  # nothing moves: the batches add up to the whole
    batches = [rows[:64], rows[64:]]
    loss, accuracy = demo.train_epoch(net, still, data.x_train, data.y_train, batches)
    logits = net.forward(data.x_train, train=False)
    assert loss == pytest.approx(fd.softmax_cross_entropy(logits, data.y_train)[0], rel=1e-6)
    assert accuracy == demo.accuracy(net, data.x_train, data.y_train)


def test_the_accuracy_is_without_dropout(folder):
    data = datasets.load(folder)
    net, plain = (demo.build(36, rates, seed=5) for rates in ((0.9, 0.9), (0.0, 0.0)))
    want = np.mean(plain.forward(data.x_test, train=False).argmax(axis=1) == data.y_test)
    assert demo.accuracy(net, data.x_test, data.y_test) == want


def test_training_learns():
    """Each of the ten classes has one bright pixel: a loop that trains learns them all."""
    y = np.arange(1000) % 10
    x = 4 * np.eye(10, dtype=np.float32)[y]
    data = datasets.Dataset("ten pixels", "here", x, y, x, y)
    for name in demo.RATES:
        learnt = demo.train(name, data, epochs=4, seed=0)
        assert learnt["test_accuracy"][-1] == 1
        assert learnt["train_loss"][-1] < learnt["train_loss"][0] / 4


def test_the_picture_shows_the_six_curves():
    keys = ("train_loss", "train_accuracy", "test_accuracy")
    runs = {
        name: {key: [first + i, first + i + 0.5] for i, key in enumerate(keys)}
        for name, first in (("dropout", 0.0), ("plain", 10.0))
    }
    figure = demo.plot("some data", runs)
    assert any("some data" in text.get_text() for text in figure.texts)
    shown = [line for axes in figure.axes for line in axes.get_lines()]
    want = [values for run in runs.values() for values in run.values()]
    assert sorted(list(line.get_ydata()) for line in shown) == sorted(want)
    for axes in figure.axes:
        assert axes.get_xlabel() == "epoch"
        assert axes.get_ylabel()
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert len(set(labels)) == len(axes.get_lines())
    for line in shown:
        assert list(line.get_xdata()) == [1, 2]
    assert len({(line.get_color(), line.get_linestyle()) for line in shown}) == 4


@pytest.mark.parametrize("epochs", [1, 200])
def test_the_picture_can_be_drawn_for_any_number_of_epochs(epochs):
    curve = {key: list(np.linspace(1, 0.5, epochs)) for key in demo.CURVES}
    png = io.BytesIO()
    demo.plot("d", {"dropout": curve, "plain": curve}).savefig(png)
    png.seek(0)
    assert imread(png).std() > 0


def one_line(capsys):
    err = capsys.readouterr().err
    line = err.strip().splitlines()[-1]
    assert "Traceback" not in err
    assert line.startswith("fusedrop demo: ")
    return line


def refuse(*_args, **_options):
    raise AssertionError("this must not be reached")


def test_a_missing_data_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "train", refuse)
    assert run(tmp_path / "none", tmp_path) == 2
    assert f"--data: wanted a folder with IDX files, got {tmp_path / 'none'}" in one_line(capsys)


def test_a_broken_data_file(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "train", refuse)
    broken = folder / "train-images-idx3-ubyte.gz"
    broken.write_bytes(broken.read_bytes()[:100])
    assert run(folder, tmp_path) == 1
    assert f"{broken}: wanted a whole gzip file, got a truncated one" in one_line(capsys)


def test_an_out_that_cannot_be_written_is_found_before_training(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(datasets, "load", refuse)
    (tmp_path / "file").write_text("")
    (tmp_path / "taken" / "demo.png").mkdir(parents=True)
    for out, reason in (
        ("file", "File exists"),
        ("file/in", "Not a directory"),
        ("taken", "demo.png"),
    ):
        assert run(folder, tmp_path / out) == 2
        line = one_line(capsys)
        assert f"--out: wanted a folder to write into, got {tmp_path / out}" in line
        assert reason in line


def test_a_full_disk_is_one_line(folder, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    assert run(folder, tmp_path) == 1
    assert "the results were not written" in (line := one_line(capsys))
    assert "No space left" in line


@pytest.mark.parametrize(("call", "name"), [(2, "dropout"), (5, "plain")])
def test_ctrl_c_says_what_was_interrupted(folder, tmp_path, capsys, monkeypatch, call, name):
    calls, loss = [], fd.softmax_cross_entropy

    def interrupt(*args):
        calls.append(args)
        if len(calls) == call:
            raise KeyboardInterrupt
        return loss(*args)

    monkeypatch.setattr(fd, "softmax_cross_entropy", interrupt)
    assert run(folder, tmp_path / "out") == 130
    assert f"interrupted in the {name} run; nothing was written" in one_line(capsys)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_loss_that_is_not_finite_ends_the_run(folder, tmp_path, capsys, monkeypatch):
    loss = fd.softmax_cross_entropy
    monkeypatch.setattr(fd, "softmax_cross_entropy", lambda *args: (math.nan, loss(*args)[1]))
    assert run(folder, tmp_path / "out") == 1
    assert "the dropout run: wanted a finite loss in epoch 1, got nan" in one_line(capsys)
    assert list((tmp_path / "out").iterdir()) == []
