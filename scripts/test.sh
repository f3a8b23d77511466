#!/usr/bin/env bash
# Makes the environment, installs the project, then checks style, types, layers and runs the tests.
# Arguments go to pytest: bash scripts/test.sh -m slow tests/qm
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # tensors in tests are small: more threads make them slower
ruff format --check .
ruff check .
mypy
lint-imports

# The tests start in an empty folder, so that they import the installed package and not the folder `espalike`.
root=$PWD
arguments=()
paths=("$root/tests")
for argument in "$@"; do
  case $argument in
    tests | tests/*) argument=$root/$argument paths=() ;; # a path, perhaps with the name of a test
    /*) paths=() ;;
  esac
  arguments+=("$argument")
done
empty=$(mktemp -d)
trap 'rm -rf "$empty"' EXIT
cd "$empty"
pytest -c "$root/pyproject.toml" --rootdir "$root" --numprocesses auto --maxprocesses 4 --dist worksteal "${arguments[@]}" "${paths[@]}"
