#!/usr/bin/env bash
# Wheels for `make test-gpu` and `make bench-gpu` on a machine that reaches no package registry.
#
#   benchmarks/carry_wheels.sh FOLDER [PYTHON]             here: all they need, for that version of Python (default 3.12)
#   benchmarks/carry_wheels.sh FOLDER PYTHON NAME…         only these, without what they depend on: of a machine that
#                                                          has most of it
#   python -m pip install --no-index --find-links FOLDER NAME…        there; --no-deps after the second
set -euo pipefail

folder=${1:?the folder that the wheels go to}
version=${2:-3.12}
shift $(($# > 2 ? 2 : $#))

platforms=()
for glibc in 2_28 2_27 2_26 2_24 2_17; do platforms+=(--platform "manylinux_${glibc}_x86_64"); done
platforms+=(--platform manylinux2014_x86_64 --platform manylinux1_x86_64)

needs=(cupy-cuda13x nvidia-cuda-nvrtc numpy scipy numba h5py google-crc32c zarr pytest)
if (($#)); then needs=(--no-deps "$@"); fi

mkdir -p "$folder"
python3 -m pip --disable-pip-version-check download --only-binary=:all: --implementation cp \
    --python-version "$version" "${platforms[@]}" --dest "$folder" "${needs[@]}"
du -sh "$folder"
