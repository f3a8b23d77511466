#!/usr/bin/env bash
# Sourced by the other scripts. Makes the virtual environment .venv if there is none, installs the project with its
# extras if pyproject.toml has changed since the last time, and activates the environment. Needs Python 3.11 or newer and
# pip, nothing else. Variables that change this:
#   PYTHON            the interpreter
#   ESPALIKE_VENV     the folder of the environment
#   ESPALIKE_PACKAGE  what is installed: '-e .' (the default, editable), the path of a wheel, or nothing if empty
#   ESPALIKE_EXTRAS   the extras of pyproject.toml that are installed with it: all (the default), or none if empty
#
# `--help` prints the first comment of the script that sources it.
set -euo pipefail
case " $* " in *" --help "* | *" -h "*) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" && exit ;; esac
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

extras=${ESPALIKE_EXTRAS-all}
stamp="$venv/.espalike-$(sha256sum pyproject.toml | cut -c1-16)"
if [ -n "$package" ] && [ ! -e "$stamp-all" ] && [ ! -e "$stamp-$extras" ]; then
  echo "installing espalike${extras:+ with the extras $extras} (several minutes the first time):"
  install() { # with a line for each package
    python -m pip install --disable-pip-version-check "$@" |
      { grep --line-buffered -oE '^(Collecting [^ ]+|Installing collected packages)' || true; }
  }
  # torch first: PyPI's build brings gigabytes for GPUs; docs/install.md says how pip takes the one for the processor alone
  install "$(grep -oE 'torch==[0-9.]+' pyproject.toml | head -1)"
  # shellcheck disable=SC2086 # '-e .' is two words
  install $package"${extras:+[$extras]}"
  rm -f "$venv"/.espalike-*
  touch "$stamp-$extras"
  echo "installed: $(du -sh "$venv" | cut -f 1) in $venv"
fi
