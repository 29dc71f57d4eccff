#!/usr/bin/env bash
# Everything that is to be shown on a CUDA device, the worst news last: correctness, speed, the profiler's counters.
#
#   benchmarks/gpu_check.sh tier1 [OUT]    the operators: needs torch, CuPy and pytest, but no DALI and no installation
#   benchmarks/gpu_check.sh tier2 [OUT]    the pipelines, the loader, a training step and the trainer: needs DALI too
#
# PYTHON is the interpreter (default: python3). Logs and results go to OUT (default: runs/gpu-check). A part that fails
# does not stop the next one; what failed is said again at the end, and the exit status is 1.
set -uo pipefail
cd "$(dirname "$0")/.."
tier=${1:-}
out=${2:-runs/gpu-check}
python=${PYTHON:-python3}
mkdir -p "$out"
out=$(cd "$out" && pwd)
export PYTHONUNBUFFERED=1 PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
failed=()

# part NAME SECONDS COMMAND...
part() {
  local name=$1 limit=$2 start=$SECONDS status
  shift 2
  printf '\n==== %s\n' "$name"
  timeout --kill-after 10 "$limit" "$@" 2>&1 | tee "$out/$name.log"
  status=${PIPESTATUS[0]}
  printf -- '---- %s: %s after %d s\n' "$name" "$([[ $status == 0 ]] && echo ok || echo "exit status $status")" $((SECONDS - start))
  [[ $status == 0 ]] || failed+=("$name")
}

environment() {
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem --format=csv,noheader
  "$python" --version
  # Its status is of no use here: it fails where something is missing that this tier does not need.
  "$python" -m apr_dali doctor || true
  "$python" -c 'import torch; torch.cuda.is_available() or exit("torch sees no CUDA device: every test would be skipped")'
}

# Tests beside each other, where pytest-xdist is there: most of their time is that of compilers and of NumPy.
tests() {
  local beside=()
  "$python" -c 'import xdist' 2>/dev/null && beside=(-n 8)
  "$python" -m pytest -q --tb=short -p no:cacheprovider -m gpu "${beside[@]}" --durations=5 "$@"
}
export -f environment tests
export python

case $tier in
  tier1)
    part environment 60 bash -c environment
    part operators-tests 300 bash -c 'tests tests/gpu/operators'
    part operators-speed 240 "$python" benchmarks/gpu.py --operators --json "$out/operators.json"
    part operators-profile 120 "$python" benchmarks/gpu_profile.py
    ;;
  tier2)
    part environment 60 bash -c environment
    part pipelines-tests 300 bash -c 'tests tests/gpu/pipelines'
    part pipelines-speed 300 "$python" benchmarks/gpu.py --pipelines --json "$out/pipelines.json"
    ;;
  *)
    sed -n '2,8p' "$0" >&2
    exit 2
    ;;
esac

printf '\n==== summary of %s\n' "$tier"
for name in "${failed[@]}"; do
  printf '\n-- %s failed; the end of %s:\n' "$name" "$out/$name.log"
  tail -n 60 "$out/$name.log"
done
if ((${#failed[@]})); then
  printf '\nfailed: %s\n' "${failed[*]}"
  exit 1
fi
echo "all parts passed"
