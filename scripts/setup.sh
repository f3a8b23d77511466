#!/usr/bin/env bash
# Sourced by the other scripts: makes the virtual environment .venv where there is none, installs the project with
# everything in it when pyproject.toml has changed since the last time, and activates it. Needs Python 3.11 or newer
# and pip, nothing else. PYTHON chooses the interpreter, ESPALIKE_VENV the environment's folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=${ESPALIKE_VENV:-.venv}
python=${PYTHON:-$(command -v python3.11 || command -v python3)}

if [ ! -x "$venv/bin/python" ]; then
  echo "making the environment $venv with $("$python" --version)"
  # some systems ship Python without the module that venv needs to install pip
  "$python" -m venv "$venv" || { rm -rf "$venv"; "$python" -m pip install virtualenv; "$python" -m virtualenv "$venv"; }
fi
. "$venv/bin/activate"

stamp="$venv/.espalike-$(sha256sum pyproject.toml | cut -c1-16)"
if [ ! -e "$stamp" ]; then
  echo "installing (several minutes the first time)"
  # torch first and exactly the version asked for: a range pulls gigabytes that a CPU machine does not need
  python -m pip install --quiet --disable-pip-version-check "$(grep -oE 'torch==[0-9.]+' pyproject.toml | head -1)"
  python -m pip install --quiet --disable-pip-version-check -e '.[all]'
  rm -f "$venv"/.espalike-*
  touch "$stamp"
fi
