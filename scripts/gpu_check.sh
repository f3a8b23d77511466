#!/usr/bin/env bash
# Measures and checks espalike on a GPU, in ten minutes at most, and prints one table: training steps, share of the memory
# bandwidth, agreement with the CPU, mixed precision, memory, and labels of the teacher AIMNet2. Without a GPU, a small version
# runs on the CPU. Exit status 1: the GPU disagrees with the CPU.
# Uses the environment .venv, or the interpreter PYTHON, which has espalike and a torch for this GPU. It installs nothing.
# Other arguments go to benchmarks/gpu_check.py, e.g. --json gpu.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-.venv/bin/python}
command -v "$python" > /dev/null || { echo "no $python: set PYTHON to an interpreter that has espalike" >&2; exit 2; }
exec "$python" benchmarks/gpu_check.py "$@"
