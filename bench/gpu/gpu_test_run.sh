#!/usr/bin/env bash
# The GPU test run. It needs a machine with a GPU, nvcc and PyTorch, and no network:
#
#     bash bench/gpu/gpu_test_run.sh            at most eight minutes
#     bash bench/gpu/gpu_test_run.sh --dry-run  no GPU: the steps that need none, with kernels emulated on the host
#
# It builds, verifies all kernels, runs the GPU tests, compute-sanitizer's four tools on small shapes, the profiler on a
# large layer and the benchmark. It ends with a short table and writes <gpu>-<date>.json to $OUT, and to bench/results
# if nothing failed.
# The exit status is not 0 if a test or a mask failed. Logs are in $OUT, or in a temporary folder whose name it prints.
# It changes no setting of the card. PYTHON names the interpreter that has PyTorch (default python3); PEERS=eager leaves
# out torch.compile.
set -euo pipefail
cd "$(dirname "$0")/../.."

LIMIT=470 # seconds for all steps; every step also has its own limit
SLOWER=1 # factor for all limits
PYTHON=${PYTHON:-python3}
dry_run=""
case "${1:-}" in
  "") ;;
  --dry-run | --no-gpu) dry_run=--dry-run SLOWER=6 ;; # a laptop has fewer cores
  *) echo "usage: bash bench/gpu/gpu_test_run.sh [--dry-run]" >&2; exit 2 ;;
esac

out=${OUT:-$(mktemp -d)}
work=$(mktemp -d)
logs=$work/logs
mkdir -p "$out" "$logs"
trap 'rm -rf "$work"' EXIT
# A cache of its own: every kernel is verified in this run, whether or not it has been verified before.
export XDG_CACHE_HOME="$work/cache" TORCHINDUCTOR_CACHE_DIR="$work/inductor"
export PYTHONUNBUFFERED=1 PYTHONPATH="$work/site"
[ -n "$dry_run" ] || export FUSEDROP_REQUIRE_GPU=1 # a test that finds no GPU then fails instead of being skipped

left() { echo $((SLOWER * LIMIT - SECONDS)); }

step() { # step NAME SECONDS COMMAND...: runs COMMAND with a time limit, writes NAME.log, prints how the step ended
  local name=$1 limit=$((SLOWER * $2)) status=0 began=$SECONDS
  shift 2
  [ "$limit" -lt "$(left)" ] || limit=$(left)
  if [ "$limit" -lt 1 ]; then
    echo "$name: no time left" | tee -a "$logs/reasons.txt"
    return 1
  fi
  timeout --kill-after=5 "$limit" "$@" >"$logs/$name.log" 2>&1 || status=$?
  printf '%-22s %4d s  %s\n' "$name" $((SECONDS - began)) "$(
    case $status in
      0) echo "done" ;;
      124 | 137) echo "stopped at its limit of $limit s" ;;
      *) echo "status $status" ;;
    esac
  )"
  case $status-$name in
    124-* | 137-*) echo "$name: stopped at its limit of $limit s" >>"$logs/reasons.txt" ;;
    0-* | *-sanitizer-* | *-ncu | *-environment) ;; # of the checkers only their findings count
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
build() { # installs into $work/site; a dry run also builds the module that emulates the kernels
  export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
  local cuda=ON
  [ -z "$dry_run" ] || cuda=${FUSEDROP_CUDA:-AUTO}
  "$PYTHON" -m pip install --no-build-isolation --no-deps --no-index --disable-pip-version-check --quiet \
    --target "$work/site" -Cbuild-dir="$work/build" -Ccmake.define.FUSEDROP_CUDA="$cuda" \
    -Ccmake.define.FUSEDROP_CUDA_EMULATE="$([ -z "$dry_run" ] && echo OFF || echo ON)" .
}

verify() { # verify [--emulated MODULE.so]
  step verify 60 "$PYTHON" -m bench.gpu.gpu_verify "$@" || true
  cat "$logs/verify.log"
  cp "$XDG_CACHE_HOME/fusedrop/verified.json" "$logs" 2>/dev/null || true
}

sanitize() { # sanitize TOOL
  step "sanitizer-$1" 90 compute-sanitizer --tool "$1" --report-api-errors no "$PYTHON" -m bench.gpu.gpu_small
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
pytest=("$PYTHON" -m pytest -p no:cacheprovider -q tests/cuda)
if [ -n "$dry_run" ]; then
  emulated=(--emulated "$(find "$work/build/emulated" -name '_cuda*.so')")
  verify "${emulated[@]}"
  FUSEDROP_EMULATED_CUDA=${emulated[1]} step tests 100 "${pytest[@]}" -k emulated ||
    tail -n 30 "$logs/tests.log"
  step small 90 "$PYTHON" -m bench.gpu.gpu_small "${emulated[@]}" || tail -n 20 "$logs/small.log"
  not_run "compute-sanitizer and ncu: no GPU"
else
  verify
  step small 40 "$PYTHON" -m bench.gpu.gpu_small || tail -n 20 "$logs/small.log"
  # Tests and checkers run in parallel: only the benchmark needs the card for itself.
  checkers=()
  if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck synccheck initcheck; do
      sanitize "$tool" &
      checkers+=($!)
    done
  else
    not_run "compute-sanitizer: not installed"
  fi
  on_gpu="gpu or test_torch"
  step tests 100 "${pytest[@]}" --junitxml="$logs/tests.xml" -k "$on_gpu" ||
    tail -n 30 "$logs/tests.log"
  for checker in "${checkers[@]}"; do wait "$checker" || true; done
  if command -v ncu >/dev/null && step ncu 40 ncu --clock-control none --kernel-name 'regex:_tile|_kernel' \
    --section SpeedOfLight --section Occupancy --section LaunchStats "$PYTHON" -m bench.gpu.gpu_small --large; then
    grep -E '^  [a-z_]+.*Context|Duration|Throughput +%|Registers Per|Achieved Occupancy' "$logs/ncu.log" || true
  elif command -v ncu >/dev/null; then
    not_run "ncu: $(grep -m1 '==ERROR==' "$logs/ncu.log" || echo "see ncu.log")"
  else
    not_run "ncu: not installed"
  fi
fi

benchmark=(-m bench.gpu.bench_gpu --json "$logs/bench.json" --seconds $(($(left) - 60)))
[ -z "$dry_run" ] || benchmark+=("${emulated[@]}" --shapes "33x20x40,64x48x32" --rounds 2 --compile none)
[ "${PEERS:-}" != eager ] || benchmark+=(--compile none)
step bench 400 "$PYTHON" "${benchmark[@]}" || tail -n 20 "$logs/bench.log"
[ -n "$dry_run" ] || cat "$logs/bench.log"

# The result is copied into the project only if nothing failed.
status=0
"$PYTHON" -m bench.gpu.gpu_summary "$logs" --results "$logs" $dry_run | tee "$logs/summary.log" || status=$?
if [ "$status$dry_run" = 0 ] && [ -w bench/results ]; then
  for file in "$logs"/*-20??-??-??.json; do cp "$file" bench/results/; done
fi
# Some machines return at most eight files of $OUT: the result, and one archive with all logs.
for file in "$logs"/*-20??-??-??.json; do cp "$file" "$out"; done
tar czf "$out/gpu-test-run-logs.tar.gz" -C "$logs" .
echo "logs: $out; $SECONDS s"
exit "$status"
