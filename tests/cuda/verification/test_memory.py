"""How verified kernels are remembered, and what is said about wrong ones. A case that counts stands for all cases."""

import json
import os
import subprocess
import sys
import threading
import time
import types

import fusedrop as fd
import pytest
from fusedrop import _core
from fusedrop.cuda import verification, verified_cache
from fusedrop.cuda.comparison import Difference
from fusedrop.cuda.verification import verify, verify_again

KERNEL = "linear float32"
WRONG = Difference("dw[3, 17]: got 0.5, expected 0.25, error bound 1e-05; 2 of 90 elements differ")


class Machine:
    """A CUDA module with two devices, whose kernels are verified by a case that counts."""

    def __init__(self, file):
        self.runs, self.error, self.seconds = [], None, 0.0
        self.names = ["GPU A, 9.0, uuid 1, driver 12.8, runtime 12.4", "GPU B, 8.0, uuid 2, driver 12.8, runtime 12.4"]
        self.module = types.ModuleType("fusedrop._cuda")
        self.module.__file__ = str(file)
        self.module.emulated = lambda: False
        self.module.device_identity = self.identity

    def identity(self, device):
        if device >= len(self.names):
            raise RuntimeError("invalid device ordinal")
        return self.names[device]

    def cases(self, device, kernel):
        yield "odd sizes"
        self.runs.append((device, kernel))
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error

    def new_process(self):
        verification._results.clear()
        verification._again.clear()
        verification._build.cache_clear()


@pytest.fixture
def machine(monkeypatch, tmp_path):
    (tmp_path / "_cuda.so").write_bytes(b"kernels")
    made = Machine(tmp_path / "_cuda.so")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "fusedrop._cuda", made.module)
    monkeypatch.setattr(verification, "_cases", made.cases)
    monkeypatch.setattr(verification, "_use", verify)
    made.new_process()
    yield made
    made.new_process()


def cache_file():
    return verified_cache.path()


# --- what is remembered


def test_a_kernel_is_verified_once_for_each_device(machine):
    for _ in range(2):
        for device in (0, 1):
            for kernel in (KERNEL, "dropout_mask"):
                verify(device, kernel)
        machine.new_process()
    assert machine.runs == [(device, kernel) for device in (0, 1) for kernel in (KERNEL, "dropout_mask")]
    verify_again(0, KERNEL)
    assert len(machine.runs) == 5


def test_another_device_driver_version_or_build_is_verified_again(machine, monkeypatch):
    def change_device():
        machine.names[0] = machine.names[0].replace("uuid 1", "uuid 3")

    def change_driver():
        machine.names[0] = machine.names[0].replace("driver 12.8", "driver 12.9")

    def change_version():
        monkeypatch.setattr(fd, "__version__", "99.0")

    def change_build():  # of the same size, at the same time
        file = machine.module.__file__
        before = os.stat(file)
        with open(file, "wb") as changed:
            changed.write(b"kernelz")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    verify(0, KERNEL)
    for number, change in enumerate((change_device, change_driver, change_version, change_build), 2):
        change()
        machine.new_process()
        assert verification.state(0, KERNEL) == "not yet used"
        verify(0, KERNEL)
        assert len(machine.runs) == number


SCRIPT = """
import sys, types
import fusedrop
from fusedrop.cuda import verification
module = types.ModuleType("fusedrop._cuda")
module.__file__, module.emulated, module.device_identity = sys.argv[1], lambda: False, lambda device: "GPU A"
sys.modules["fusedrop._cuda"] = module
verification._cases = lambda device, kernel: print("verifies", kernel) or iter(())
verification.verify(0, "dropout_mask")
"""


def test_a_later_process_remembers(machine):
    command = [sys.executable, "-c", SCRIPT, machine.module.__file__]
    said = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(2)]
    assert said == ["verifies dropout_mask\n", ""]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\x00", b'{"GPU A": 3}', b'"verified"', b"[" * 100_000],
    ids=["empty", "half", "list", "bytes", "number", "text", "deep"],
)
def test_a_damaged_file_is_replaced(machine, content):
    verify(0, KERNEL)
    cache_file().write_bytes(content)
    machine.new_process()
    verify(0, KERNEL)
    assert len(machine.runs) == 2
    machine.new_process()
    verify(0, KERNEL)
    assert len(machine.runs) == 2


@pytest.mark.parametrize("value", [{KERNEL: True}, {KERNEL: "failed"}, {KERNEL: ["verified"]}, "verified", None])
def test_only_the_word_counts(machine, value):
    verify(0, KERNEL)
    cache_file().write_text(json.dumps({verification.key_of(0): value}))
    machine.new_process()
    verify(0, KERNEL)
    assert len(machine.runs) == 2


def test_a_folder_that_is_not_writable_is_no_error(machine, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    for _ in range(2):
        machine.new_process()
        verify(0, KERNEL)
    assert len(machine.runs) == 2


def test_a_user_without_a_folder(machine, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setattr(verified_cache.Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert cache_file() is None
    for _ in range(2):
        machine.new_process()
        verify(0, KERNEL)
    assert len(machine.runs) == 2


def test_the_file_is_replaced_as_a_whole(machine, monkeypatch):
    verify(0, KERNEL)
    before = cache_file().read_text()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    verify(0, "dropout_mask")
    assert cache_file().read_text() == before
    assert [path.name for path in cache_file().parent.iterdir()] == ["verified.json"]


def test_the_emulation_writes_nothing(machine):
    machine.module.emulated = lambda: True
    verify(0, KERNEL)
    assert not cache_file().exists()
    assert verification.devices() == [0]
    assert verification.state(0, KERNEL) == "verified"


def test_two_threads_verify_once(machine):
    machine.seconds = 0.1
    threads = [threading.Thread(target=verify, args=(0, KERNEL)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert machine.runs == [(0, KERNEL)]


# --- what is wrong


def test_a_wrong_kernel_raises_at_every_call(machine):
    machine.error = WRONG
    for _ in range(2):
        with pytest.raises(RuntimeError) as raised:
            verify(1, KERNEL)
        text = str(raised.value)
        for part in ("'linear float32' on device 1", "GPU B, 8.0, uuid 2", "case 'odd sizes'", str(WRONG), "stays off"):
            assert part in text
        assert "fusedrop info --verify" in text
    assert machine.runs == [(1, KERNEL)]
    assert verification.state(1, KERNEL) == f"failed: {text}"
    machine.error = None
    with pytest.raises(RuntimeError, match="stays off"):  # a kernel that is right only sometimes is wrong
        verify(1, KERNEL)
    verify(0, KERNEL)
    verify(1, "dropout_mask")


def test_a_later_process_verifies_a_wrong_kernel_again(machine):
    machine.error = WRONG
    with pytest.raises(RuntimeError, match="stays off"):
        verify(0, KERNEL)
    machine.new_process()
    assert verification.state(0, KERNEL).startswith("failed: the CUDA kernel")
    with pytest.raises(RuntimeError, match="stays off"):
        verify(0, KERNEL)
    machine.new_process()
    machine.error = None
    verify(0, KERNEL)
    assert verification.state(0, KERNEL) == "verified"
    assert len(machine.runs) == 3


def test_a_remembered_kernel_that_fails_again_is_off(machine):
    verify(0, KERNEL)
    machine.error = WRONG
    verify(0, KERNEL)
    with pytest.raises(RuntimeError, match="stays off"):
        verify_again(0, KERNEL)
    with pytest.raises(RuntimeError, match="stays off"):
        verify(0, KERNEL)
    machine.new_process()
    assert verification.state(0, KERNEL).startswith("failed: ")


def test_an_error_of_a_call_is_not_remembered(machine):
    machine.error = RuntimeError("out of memory")
    with pytest.raises(RuntimeError, match=r"could not be verified: case 'odd sizes': out of memory.*CUDA graph"):
        verify(0, KERNEL)
    assert verification.state(0, KERNEL) == "not yet used"
    machine.error = None
    verify(0, KERNEL)
    assert len(machine.runs) == 2


@pytest.mark.parametrize("tf32", [False, True])
def test_the_switch_for_tf32_is_set_for_the_kernel_and_restored(machine, monkeypatch, tf32):
    seen = []
    monkeypatch.setattr(verification, "_cases", lambda *_: seen.append(_core.get_tf32()) or iter(()))
    before = _core.get_tf32()
    try:
        _core.set_tf32(tf32)
        verify(0, "linear tf32")
        verify(0, "linear float32")
        verify(0, "dropout_mask")
        assert _core.get_tf32() is tf32
    finally:
        _core.set_tf32(before)
    assert seen == [True, False, tf32]


def test_info_tells_the_state_of_each_kernel(machine, monkeypatch, capsys):
    from fusedrop.cli import info

    machine.error = WRONG
    with pytest.raises(RuntimeError):
        verify(0, "linear tf32")
    machine.error = None
    verify(0, KERNEL)
    assert info.report_devices(verify=False) == []
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("  device ") for line in lines) == 2
    assert "not yet used" in next(line for line in lines if "linear bfloat16" in line)
    assert next(line for line in lines if "linear float32" in line).endswith("verified")
    assert "dw[3, 17]" in next(line for line in lines if "linear tf32" in line)
    machine.new_process()
    assert info.report_devices(verify=True) == []
    lines = capsys.readouterr().out.splitlines()
    assert sum(" verified, " in line for line in lines) == 2 * len(verification.KERNELS)
    machine.error = WRONG
    machine.new_process()
    assert len(info.report_devices(verify=True)) == 2 * len(verification.KERNELS)
    machine.names.clear()
    assert info.report_devices(verify=True) == ["--verify found no GPU"]
