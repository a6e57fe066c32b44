"""The digest of results (tests/support/digest.py) finds no difference between two runs, and finds a changed line."""

import subprocess
import sys

import pytest
from repository import ROOT

TOPIC = ["--isa", "scalar", "--topic", "pooling"]


def digest(*arguments):
    command = [sys.executable, str(ROOT / "tests" / "support" / "digest.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The lines of one topic on one instruction set."""
    path = tmp_path_factory.mktemp("digests") / "recorded.txt"
    done = digest(*TOPIC, "--out", path)
    assert done.returncode == 0, done.stderr
    return path


def with_first_line(recorded, tmp_path, change):
    """A copy of the recorded lines, the first one changed."""
    first, *rest = recorded.read_text(encoding="utf-8").splitlines(keepends=True)
    path = tmp_path / "changed.txt"
    path.write_text(change(first) + "".join(rest), encoding="utf-8")
    return path, first.split()[0]


def test_a_line_is_a_key_and_a_sha256(recorded):
    lines = [line.split(" ") for line in recorded.read_text(encoding="utf-8").splitlines()]
    keys = [key for key, _ in lines]
    assert len(keys) > 200
    assert keys == sorted(set(keys))
    assert all(key.startswith("scalar/pooling/") for key in keys)
    assert all(len(bytes.fromhex(value)) == 32 for _, value in lines)


def test_a_second_run_has_the_same_lines(recorded):
    done = digest(*TOPIC, "--compare", recorded)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_changed_line_is_found(recorded, tmp_path):
    def other_digest(line):
        key, _, value = line.partition(" ")
        return f"{key} {'1' if value[0] == '0' else '0'}{value[1:]}"

    path, key = with_first_line(recorded, tmp_path, other_digest)
    done = digest(*TOPIC, "--compare", path)
    assert (done.returncode, done.stdout) == (1, f"differs: {key}\n")


def test_a_missing_line_is_found(recorded, tmp_path):
    path, key = with_first_line(recorded, tmp_path, lambda line: line.replace("scalar/pooling/", "scalar/pooling/no/"))
    done = digest(*TOPIC, "--compare", path, "--allow-added")
    missing = key.replace("scalar/pooling/", "scalar/pooling/no/")
    assert (done.returncode, done.stdout) == (1, f"missing: {missing}\nadded: {key}\n")
