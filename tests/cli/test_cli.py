"""The command ``fusedrop``: exit status, one clear line for what is wrong, and ``info``."""

import subprocess
import sys

import fusedrop as fd
import numpy as np
import pytest
from fusedrop.__main__ import main
from fusedrop.cli import info

# Runs the command as on an install without the extra packages of the demo.
NUMPY_ONLY = """
import sys
for name in ("tqdm", "matplotlib", "pooch", "sklearn", "scipy", "torch"):
    sys.modules[name] = None
from fusedrop.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
# Says which of the slow imports an argument error has caused.
SLOW_IMPORTS = """
import sys
from fusedrop.__main__ import main
status = main(["demo", "--epochs", "0"])
print(sorted({"tqdm", "matplotlib", "pooch", "sklearn", "torch"} & set(sys.modules)))
sys.exit(status)
"""


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: {info,demo}"),
        (["train"], "invalid choice: 'train'"),
        (["info", "--data"], "unrecognized arguments: --data"),
        (["demo", "--epochs", "0"], "--epochs: wanted an integer of at least 1, got '0'"),
        (["demo", "--epochs", "-3"], "--epochs: wanted an integer of at least 1, got '-3'"),
        (["demo", "--epochs", "ten"], "--epochs: wanted an integer of at least 1, got 'ten'"),
        (["demo", "--seed", "-1"], "--seed: wanted an integer from 0 to 18446744073709551615"),
        (["demo", "--seed", str(2**64)], "--seed: wanted an integer from 0 to"),
        (["demo", "--data"], "--data: expected one argument"),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_a_wrong_argument_is_one_line_and_status_2(arguments, message, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.startswith("fusedrop")
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"]])
def test_help(arguments, capsys):
    assert main(arguments) == 0
    assert "usage: fusedrop" in capsys.readouterr().out


def test_python_m_fusedrop():
    version = python("-m", "fusedrop", "--version")
    assert (version.returncode, version.stdout) == (0, f"fusedrop {fd.__version__}\n")
    wrong = python("-m", "fusedrop", "demo", "--epochs", "0")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("fusedrop demo: error: argument --epochs")


def test_an_argument_error_imports_nothing_slow():
    result = python("-c", SLOW_IMPORTS)
    assert (result.returncode, result.stdout) == (2, "[]\n")


def test_numpy_alone_is_enough_for_info_but_not_for_the_demo():
    result = python("-c", NUMPY_ONLY, "info")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("\nSUCCESS\n")

    result = python("-c", NUMPY_ONLY, "demo")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "fusedrop demo: error: wanted tqdm and matplotlib, not installed: pip install 'fusedrop[demo]'\n"
    )


def test_a_reader_that_went_away_is_no_traceback():
    command = [sys.executable, "-m", "fusedrop", "info"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 1


def last_line(capsys):
    return capsys.readouterr().out.splitlines()[-1]


def test_info_tells_the_installation_and_tests_every_instruction_set(capsys, monkeypatch):
    monkeypatch.setenv("FUSEDROP_ISA", "some")
    assert main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    text = "\n".join(lines)
    for fact in (fd.__version__, np.__version__, sys.version.split()[0], "FUSEDROP_ISA=some"):
        assert fact in text
    assert f"threads        {fd.config.get_num_threads()}" in lines
    assert any(line.startswith("CUDA  ") for line in lines)
    for isa in fd.config.available_isas():
        assert any(line.startswith(f"  {isa} ") and "masks equal" in line for line in lines)
    assert lines[-1] == "SUCCESS"


def flip_one_bit(mask):
    mask[-1, -1] ^= True
    return mask


def nudge(array):
    """One element off by 1e-4 of the largest: no float32 rounding, yet invisible in a picture."""
    array = array.copy()
    array.flat[array.size // 2] += 1e-4 * np.abs(array).max()
    return array


def spoil(results, index):
    return tuple(nudge(r) if i == index else r for i, r in enumerate(results))


@pytest.mark.parametrize(
    ("function", "damage", "reason"),
    [
        ("dropout_mask", flip_one_bit, "mask at p = 0.0: wanted no wrong bit, got 1 of 1665"),
        ("linear_forward", lambda r: (nudge(r[0]), r[1]), "y in float32: wanted an error within"),
        ("linear_forward", lambda r: (r[0] * np.nan, r[1]), "y in float32: wanted an error within"),
        ("linear_backward", lambda r: spoil(r, 0), "dx in float32: wanted an error within"),
        ("linear_backward", lambda r: spoil(r, 1), "dw in float32: wanted an error within"),
        ("linear_backward", lambda r: spoil(r, 2), "db in float32: wanted an error within"),
    ],
    ids=["mask", "y", "NaN", "dx", "dw", "db"],
)
def test_info_finds_a_wrong_result(function, damage, reason, capsys, monkeypatch):
    right = getattr(fd, function)
    monkeypatch.setattr(fd, function, lambda *args, **options: damage(right(*args, **options)))
    assert main(["info"]) == 1
    assert last_line(capsys).startswith(f"FAILED: {fd.config.available_isas()[0]}: {reason}")


def test_info_reports_a_kernel_that_raises(capsys, monkeypatch):
    def broken(*_args, **_options):
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(fd, "linear_backward", broken)
    assert main(["info"]) == 1
    assert last_line(capsys).startswith(f"FAILED: {fd.config.available_isas()[0]}: no such instruction")


@pytest.mark.parametrize("fails", [False, True])
def test_info_leaves_the_instruction_set_as_it_was(fails, monkeypatch, capsys):
    before = fd.config.get_isa()
    if fails:
        monkeypatch.setattr(fd, "dropout_mask", lambda *_args, **_options: np.zeros((1, 1), bool))
    try:
        for isa in fd.config.available_isas():
            fd.config.set_isa(isa)
            assert main(["info"]) == int(fails)
            assert fd.config.get_isa() == isa
    finally:
        fd.config.set_isa(before)
    assert f"instructions   {isa} " in capsys.readouterr().out


def test_the_self_test_stays_clear_of_the_kink():
    """ReLU's gradient jumps at z = 0: rounding must not be able to move any z across it."""
    x, w, b, _ = (array.astype(np.float64) for array in info.example(np.float32))
    bound = info.C * (info.K + 1) * np.finfo(np.float32).eps * (np.abs(x) @ np.abs(w).T + np.abs(b))
    assert np.min(np.abs(x @ w.T + b) / bound) > 10
