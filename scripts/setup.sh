#!/usr/bin/env bash
# Sourced by the other scripts. Makes the virtual environment .venv if there is none, installs the project with all its
# extras if pyproject.toml has changed since the last time, and activates the environment. Needs Python 3.11 or newer and
# pip, nothing else. Variables that change this:
#   PYTHON            the interpreter
#   ESPALIKE_VENV     the folder of the environment
#   ESPALIKE_PACKAGE  what is installed: '-e .' (the default, editable), the path of a wheel, or nothing if empty
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=${ESPALIKE_VENV:-.venv}
python=${PYTHON:-$(command -v python3.11 || command -v python3)}
package=${ESPALIKE_PACKAGE--e .}

if [ ! -x "$venv/bin/python" ]; then
  echo "making the environment $venv with $("$python" --version)"
  # some systems ship Python without the module that venv needs to install pip
  "$python" -m venv "$venv" || { rm -rf "$venv"; "$python" -m pip install virtualenv; "$python" -m virtualenv "$venv"; }
fi
. "$venv/bin/activate"

stamp="$venv/.espalike-$(sha256sum pyproject.toml | cut -c1-16)"
if [ -n "$package" ] && [ ! -e "$stamp" ]; then
  echo "installing (several minutes the first time)"
  # torch first and exactly the version asked for: a range pulls gigabytes that a CPU machine does not need
  python -m pip install --quiet --disable-pip-version-check "$(grep -oE 'torch==[0-9.]+' pyproject.toml | head -1)"
  # shellcheck disable=SC2086 # '-e .' is two words
  python -m pip install --quiet --disable-pip-version-check $package'[all]'
  rm -f "$venv"/.espalike-*
  touch "$stamp"
fi
