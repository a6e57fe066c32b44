#!/usr/bin/env bash
# The gate of the CUDA paths: on a machine with a GPU, nvcc and PyTorch, and no network,
#
#     bash bench/gpu_gate.sh            at most eight minutes
#     bash bench/gpu_gate.sh --dry-run  no GPU: the same steps as far as they go, kernels emulated on the host
#
# It builds, runs the GPU tests, compute-sanitizer's four tools on small shapes, the profiler on a large layer and the
# benchmark. It ends with a short table, writes <gpu>-<date>.json to $OUT, and to bench/results if the GPU has passed,
# and exits with a status other than 0 where a test or a mask failed. Logs lie in $OUT, or in a temporary folder that it
# names. It changes no setting of the card. PYTHON names the interpreter that has PyTorch (default python3), PEERS=eager
# leaves torch.compile out.
set -euo pipefail
cd "$(dirname "$0")/.."

LIMIT=470 # seconds for all steps; every step has its own limit too
SLOWER=1 # what those are multiplied by
PYTHON=${PYTHON:-python3}
dry_run=""
case "${1:-}" in
  "") ;;
  --dry-run | --no-gpu) dry_run=--dry-run SLOWER=6 ;; # a laptop has fewer cores
  *) echo "usage: bash bench/gpu_gate.sh [--dry-run]" >&2; exit 2 ;;
esac

out=${OUT:-$(mktemp -d)}
work=$(mktemp -d)
logs=$work/logs
mkdir -p "$out" "$logs"
trap 'rm -rf "$work"' EXIT
# The module is switched on for this run, whether or not its paths have passed before.
export FUSEDROP_CUDA_UNPROVED=1 PYTHONUNBUFFERED=1 PYTHONPATH="$work/site" TORCHINDUCTOR_CACHE_DIR="$work/inductor"
[ -n "$dry_run" ] || export FUSEDROP_REQUIRE_GPU=1 # a test that finds no GPU fails then, instead of skipping

left() { echo $((SLOWER * LIMIT - SECONDS)); }

step() { # step NAME SECONDS COMMAND...: its output in NAME.log, at most so long; prints how it ended
  local name=$1 limit=$((SLOWER * $2)) status=0 began=$SECONDS
  shift 2
  [ "$limit" -lt "$(left)" ] || limit=$(left)
  if [ "$limit" -lt 1 ]; then
    echo "$name: no time left" | tee -a "$logs/reasons.txt"
    return 1
  fi
  timeout --kill-after=5 "$limit" "$@" >"$logs/$name.log" 2>&1 || status=$?
  printf '%-22s %4d s  %s\n' "$name" $((SECONDS - began)) "$(
    case $status in 0) echo "done" ;; 124 | 137) echo "stopped at its limit of $limit s" ;; *) echo "status $status" ;; esac
  )"
  case $status-$name in
    124-* | 137-*) echo "$name: stopped at its limit of $limit s" >>"$logs/reasons.txt" ;;
    0-* | *-sanitizer-* | *-ncu | *-environment) ;; # checkers: what counts is what they found
    *) echo "$name ended with status $status" >>"$logs/failed.txt" ;;
  esac
  return "$status"
}

not_run() { echo "$1" | tee -a "$logs/reasons.txt"; }

# shellcheck disable=SC2329  # called through `bash -c`, which timeout can stop
environment() {
  nvidia-smi || echo "no nvidia-smi"
  nvcc --version || echo "no nvcc"
  uname -srm
  "$PYTHON" -c 'import sys, torch; print("Python", sys.version); print("PyTorch", torch.__version__)'
}

# shellcheck disable=SC2329
build() { # into $work/site; without a GPU, the module that emulates the kernels too
  export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
  local cuda=ON
  [ -z "$dry_run" ] || cuda=${FUSEDROP_CUDA:-AUTO}
  "$PYTHON" -m pip install --no-build-isolation --no-deps --no-index --disable-pip-version-check --quiet \
    --target "$work/site" -Cbuild-dir="$work/build" -Ccmake.define.FUSEDROP_CUDA="$cuda" \
    -Ccmake.define.FUSEDROP_CUDA_EMULATE="$([ -z "$dry_run" ] && echo OFF || echo ON)" .
}

sanitize() { # sanitize TOOL
  step "sanitizer-$1" 90 compute-sanitizer --tool "$1" --report-api-errors no "$PYTHON" bench/gpu_small.py
}

export -f environment build
export PYTHON dry_run work
step environment 20 bash -c environment || true
cat "$logs/environment.log"
if ! step build 170 bash -c build; then
  tail -n 40 "$logs/build.log"
  cp -r "$logs/." "$out"
  echo "FAILED: the build"
  exit 1
fi

emulated=()
tests=(tests/test_cuda_*.py)
if [ -n "$dry_run" ]; then
  emulated=(--emulated "$(find "$work/build/emulated" -name '_cuda*.so')")
  FUSEDROP_EMULATED_CUDA=${emulated[1]} step tests 100 "$PYTHON" -m pytest -p no:cacheprovider -q -k emulated "${tests[@]}" ||
    tail -n 30 "$logs/tests.log"
  step small 90 "$PYTHON" bench/gpu_small.py "${emulated[@]}" || tail -n 20 "$logs/small.log"
  not_run "compute-sanitizer and ncu: no GPU"
else
  step small 40 "$PYTHON" bench/gpu_small.py || tail -n 20 "$logs/small.log"
  # Tests and checkers at once: only the benchmark needs the card for itself.
  checkers=()
  if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck synccheck initcheck; do
      sanitize "$tool" &
      checkers+=($!)
    done
  else
    not_run "compute-sanitizer: not installed"
  fi
  step tests 100 "$PYTHON" -m pytest -p no:cacheprovider -q --junitxml="$logs/tests.xml" -k "gpu or test_cuda_torch" "${tests[@]}" ||
    tail -n 30 "$logs/tests.log"
  for checker in "${checkers[@]}"; do wait "$checker" || true; done
  if command -v ncu >/dev/null && step ncu 40 ncu --clock-control none --kernel-name 'regex:_tile|_kernel' \
    --section SpeedOfLight --section Occupancy --section LaunchStats "$PYTHON" bench/gpu_small.py --large; then
    grep -E '^  [a-z_]+.*Context|Duration|Throughput +%|Registers Per|Achieved Occupancy' "$logs/ncu.log" || true
  elif command -v ncu >/dev/null; then
    not_run "ncu: $(grep -m1 '==ERROR==' "$logs/ncu.log" || echo "see ncu.log")"
  else
    not_run "ncu: not installed"
  fi
fi

benchmark=(bench/bench_gpu.py --json "$logs/bench.json" --seconds $(($(left) - 60)))
[ -z "$dry_run" ] || benchmark+=("${emulated[@]}" --shapes "33x20x40,64x48x32" --rounds 2 --compile none)
[ "${PEERS:-}" != eager ] || benchmark+=(--compile none)
step bench 400 "$PYTHON" "${benchmark[@]}" || tail -n 20 "$logs/bench.log"
[ -n "$dry_run" ] || cat "$logs/bench.log"

# Into the project's results only where the GPU has passed.
status=0
"$PYTHON" bench/gpu_summary.py "$logs" --results "$logs" $dry_run | tee "$logs/summary.log" || status=$?
if [ "$status$dry_run" = 0 ] && [ -w bench/results ]; then
  for file in "$logs"/*-20??-??-??.json; do cp "$file" bench/results/; done
fi
# At most eight files fit into $OUT on some machines: the result, and all logs in one.
for file in "$logs"/*-20??-??-??.json; do cp "$file" "$out"; done
tar czf "$out/gate-logs.tar.gz" -C "$logs" .
echo "logs: $out; $SECONDS s"
exit "$status"
