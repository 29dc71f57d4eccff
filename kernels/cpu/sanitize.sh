#!/usr/bin/env bash
# Builds the native operators with the address and the undefined-behavior sanitizer, installs them in a folder of
# their own and runs their tests against them. Usage: kernels/cpu/sanitize.sh [python]
set -euo pipefail
# Not by way of its links: a virtual environment is known by its place.
python=$(realpath --no-symlinks "$(command -v "${1:-python3}")")
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A build leaves files in its sources: take a copy. Modules built earlier stay behind.
mkdir "$work/source"
for part in apr_dali kernels pipelines eval tests setup.py pyproject.toml MANIFEST.in README.md LICENSE; do
    cp -a "$root/$part" "$work/source"
done
rm -f "$work"/source/kernels/cpu/*.so

sanitizers=-fsanitize=address,undefined
flags="$sanitizers -fno-sanitize-recover=all -fno-omit-frame-pointer -g1"
# C++ has flags of its own for setuptools of late, those of C before.
CFLAGS=$flags CXXFLAGS=$flags LDFLAGS=$sanitizers \
    "$python" -m pip install --quiet --no-deps --target "$work/installed" "$work/source"
ls "$work"/installed/apr_dali/kernels/cpu/_native_*.so

# The interpreter knows nothing of the sanitizers: their library must come first, and the C++ library with it, or the
# first exception finds no function to throw with. What Python leaks is its own. Reports go to the terminal.
cd "$work/source/tests"
compiler=${CXX:-g++}
preload="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libstdc++.so)"
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 OMP_NUM_THREADS=1 PYTHONPATH="$work/installed"
LD_PRELOAD=$preload "$python" -m pytest -p no:cacheprovider --capture=sys --timeout 3000 \
    kernels/cpu/test_augmentations.py kernels/cpu/test_backend.py kernels/cpu/test_single.py kernels/cpu/test_threads.py \
    kernels/test_jpeg.py corruptions/test_corrupt.py corruptions/test_native.py pipelines/test_dlpack.py \
    --deselect corruptions/test_corrupt.py::test_in_two_processes
