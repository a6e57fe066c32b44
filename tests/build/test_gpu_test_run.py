"""The files of the GPU test run: ptxas's report, the logs of the checkers, the summary. No GPU is needed."""

import json
import sys

import pytest
from repository import ROOT

sys.path.insert(0, str(ROOT))
from bench.gpu import gpu_summary, ptxas_report

NAME = "_ZN8fusedrop4cuda43_GLOBAL__N__54b2d8dd_10_dropout_cu_9f01375714dropout_kernelIfEEvNS_11DropoutArgsE"
PTXAS = f"""\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{NAME}' for 'sm_80'
ptxas info    : Function properties for {NAME}
    16 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 52 registers, used 0 barriers, 16 bytes cumulative stack size, 488 bytes cmem[0]
ptxas info    : Compile time = 284.979 ms
[3/9] Building CUDA object dropout.cu.o
ptxas info    : Compiling entry function '{NAME}' for 'sm_90a'
ptxas info    : Function properties for {NAME}
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Function properties for __internal_trig_reduction_slowpathd
    40 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 40 bytes cumulative stack size
"""


def test_ptxas_report_reads_registers_spills_and_stack():
    found = [(k.name, k.architecture, k.registers, k.spilled, k.stack) for k in ptxas_report.parse(PTXAS)]
    assert found == [(NAME, "sm_80", 52, 0, 16), (NAME, "sm_90a", 255, 16, 40)]


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("void fusedrop::cuda::(anonymous namespace)::f<float, (int)3>(fusedrop::Args)", "f<float, 3>"),
        ("void fusedrop::cuda::_GLOBAL__N__5_a_cu_9::f<fusedrop::bfloat16, g<int(*)()> >(int, bool)",
         "f<bfloat16, g<int(*)()>>"),
        ("unmangled", "unmangled"),
    ],
)  # fmt: skip
def test_ptxas_report_shortens_names(name, short):
    assert ptxas_report.short(name) == short


def test_ptxas_report_fails_for_spills_without_a_reason(tmp_path, monkeypatch, capsys):
    log = tmp_path / "build.log"
    log.write_text(PTXAS)
    monkeypatch.setattr(
        ptxas_report, "demangled", lambda names: ["void fusedrop::cuda::dropout_kernel<float>(int)"] * len(names)
    )
    assert ptxas_report.main(str(log)) == 1
    assert "does not explain: dropout_kernel<float> on sm_90a" in capsys.readouterr().out
    monkeypatch.setattr(ptxas_report, "SPILLS", {"dropout_kernel": "four bytes, once a thread"})
    assert ptxas_report.main(str(log)) == 0
    log.write_text("ninja: no work to do.\n")
    assert ptxas_report.main(str(log)) == 1


@pytest.mark.parametrize("change", [{"tflops": 1.0}, None], ids=["unknown", "missing"])
def test_summary_has_its_keys_and_no_others(change):
    whole = dict.fromkeys(gpu_summary.KEYS)
    assert gpu_summary.checked(whole) == whole
    broken = whole | change if change else {key: None for key in whole if key != "rng_cost_k512"}
    with pytest.raises(
        ValueError, match=r"missing \[\], not \['tflops'\]" if change else r"missing \['rng_cost_k512'\]"
    ):
        gpu_summary.checked(broken)


def row(shape, us, dtype="bfloat16"):
    return {"shape": shape, "dtype": dtype, "masks_equal": True, "us": us}


def test_summary_figures():
    big = {
        "ours forward": 2000.0,
        "torch.mm": 1500.0,
        "eager forward+backward": 9000.0,
        "ours forward+backward": 6000.0,
    }
    rows = [
        row("8192x8192x8192", big),
        row("8192x512x8192", {"ours forward": 120.0, "ours forward p=0": 100.0}),
        row("8192x8192x8192", {"ours forward": 1.0}, dtype="float32"),
    ]
    found = gpu_summary.of_rows(rows)
    assert found["tflops_8192"] == pytest.approx(2 * 8192**3 / 2e-3 * 1e-12)
    assert found["vs_cublas_8192"] == 0.75
    assert found["rng_cost_k512"] == pytest.approx(0.2)
    assert found["vs_torch_eager"] == 1.5
    assert found["masks_equal"] is True
    assert found["rng_cost_k4096"] is None
    assert found["vs_torch_compile"] is None
    assert set(gpu_summary.of_rows([]).values()) == {None}


@pytest.mark.parametrize(
    ("log", "errors"),
    [
        ("========= ERROR SUMMARY: 0 errors", 0),
        ("========= ERROR SUMMARY: 1 error", 1),
        ("========= RACECHECK SUMMARY: 3 hazards displayed (2 errors, 1 warning)", 3),
        ("========= COMPUTE-SANITIZER\n", None),
    ],
)
def test_sanitizer_log(log, errors):
    assert gpu_summary.sanitizer_errors(log) == errors


def test_skipped_tests_did_not_run(tmp_path):
    path = tmp_path / "tests.xml"
    assert gpu_summary.count_tests(path) == (None, None)
    path.write_text('<testsuites><testsuite tests="9" skipped="2" failures="1" errors="1"/></testsuites>')
    assert gpu_summary.count_tests(path) == (7, 5)


def run_main(monkeypatch, folder, *options):
    monkeypatch.setattr(sys, "argv", ["gpu_summary.py", str(folder), "--results", str(folder), *options])
    return gpu_summary.main()


def test_a_run_passes_only_where_kernels_tests_and_benchmark_ran(tmp_path, monkeypatch, capsys):
    assert run_main(monkeypatch, tmp_path) == 1
    assert "FAILED: no kernel was verified; no GPU test ran; the benchmark measured nothing" in capsys.readouterr().out
    device = {"name": "NVIDIA H100 80GB HBM3", "date": "2026-01-31"}
    bench = {"device": device, "wrong": [], "left_out": [], "rows": [row("64x64x64", {"ours forward": 1.0})]}
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    (tmp_path / "tests.xml").write_text(
        '<testsuites><testsuite tests="4" skipped="0" failures="0" errors="0"/></testsuites>'
    )
    kernels = {"an H100; fusedrop 0.1.0": {"dropout_mask": "verified", "linear float32": "verified"}}
    (tmp_path / "verified.json").write_text(json.dumps(kernels))
    for tool in gpu_summary.TOOLS:
        (tmp_path / f"sanitizer-{tool}.log").write_text("========= Error: Target application: Device not supported\n")
    assert run_main(monkeypatch, tmp_path) == 0
    written = json.loads((tmp_path / "h100-80gb-hbm3-2026-01-31.json").read_text())
    assert written["passed"] is True
    assert written["device"] == device
    assert written["rows"] == bench["rows"]
    assert written["kernels"] == kernels
    assert written["summary"]["kernels_verified"] == 2
    assert written["summary"]["sanitizer_errors"] is None
    assert "Device not supported" in written["sanitizer"]["racecheck"]
    (tmp_path / "sanitizer-memcheck.log").write_text("========= ERROR SUMMARY: 2 errors\n")
    (tmp_path / "failed.txt").write_text("small ended with status 1\n")
    bench["rows"][0]["masks_equal"] = False
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    assert run_main(monkeypatch, tmp_path) == 1
    assert (
        "FAILED: small ended with status 1; a mask differs from the CPU's; compute-sanitizer found 2 errors"
        in capsys.readouterr().out
    )
