#!/usr/bin/env bash
# Environment, install, style, types, layers, tests. Arguments go to pytest: bash scripts/test.sh -m slow
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # tensors in tests are small: threads only cost
ruff format --check .
ruff check .
mypy
lint-imports
python -m pytest --numprocesses auto --maxprocesses 4 "$@"
