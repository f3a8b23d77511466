"""The engines themselves: energies and forces of a system's files by the program that they are written for."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import app

from espalike import export
from espalike.export import amber
from espalike.system import MMSystem
from espalike.units import COULOMB, KJ_PER_KCAL
from tests.export.cases import evaluate

LMP = shutil.which("lmp")
OURS = Path(__file__).parents[2] / ".engines" / "bin" / "sander"
SANDER = os.environ.get("ESPALIKE_SANDER") or (str(OURS) if OURS.exists() else shutil.which("sander"))
MDP = """
integrator = md
nsteps = 0
continuation = yes
nstcalcenergy = 1
nstenergy = 1
verlet-buffer-tolerance = -1
coulombtype = Cut-off
coulomb-modifier = None
epsilon-rf = 1
vdwtype = Cut-off
vdw-modifier = None
rlist = {cutoff}
rcoulomb = {cutoff}
rvdw = {cutoff}
"""
"""One point: a cut-off beyond every pair, below half the box, and no shift of either potential."""
SANDER_INPUT = "one point\n &cntrl\n  imin=1, maxcyc=1, ntb=0, igb=6, cut=9999.0, ntpr=1,\n /\n"
"""In vacuum, every pair counted; the first line printed is the energy where the minimizer starts."""

Outcome = tuple[dict[str, float], np.ndarray | None]
"""Energies [kcal/mol] by the program's names, `total` among them; forces [kcal/mol/Å] if the program gives them."""


@dataclass(frozen=True)
class Program:
    """A program that reads a format.

    Attributes:
        format: the format.
        run: writes a system at coordinates into a folder, and runs the program there.
        tolerance: of energies [kcal/mol]: the digits that it prints, or its rounding.
        missing: why it cannot be run, if so.
        parts: names in its output, and the places of the primitives whose energy that is.
    """

    format: str
    run: Callable[[MMSystem, np.ndarray, Path], Outcome]
    tolerance: float
    missing: str = ""
    parts: tuple[tuple[str, tuple[str, ...]], ...] = ()


def openmm_system(system: MMSystem, xyz: np.ndarray, folder: Path) -> Outcome:
    path = export.write(system, folder / "m.system.xml")
    total, forces = evaluate(openmm.XmlSerializer.deserialize(path.read_text()), xyz)
    return {"total": total}, forces


def openmm_ffxml(system: MMSystem, xyz: np.ndarray, folder: Path) -> Outcome:
    """The XML read by `ForceField` and applied to the molecule's topology."""
    path = export.write(system, folder / "m.xml")
    total, forces = evaluate(app.ForceField(str(path)).createSystem(export.to_topology(system.molecules[0])), xyz)
    return {"total": total}, forces


def interchange(force_field, offmol) -> openmm.System:
    """SMIRNOFF parameters assigned by Interchange, given to OpenMM."""
    from openff.interchange import Interchange

    return Interchange.from_smirnoff(force_field, offmol.to_topology()).to_openmm(combine_nonbonded_forces=True)


def openff(molecule):
    from openff.toolkit import Molecule as OpenFF

    return OpenFF.from_mapped_smiles(molecule.smiles, allow_undefined_stereo=True)


def openff_toolkit(system: MMSystem, xyz: np.ndarray, folder: Path) -> Outcome:
    from openff.toolkit import ForceField

    path = export.write(system, folder / "m.offxml")
    total, forces = evaluate(interchange(ForceField(path.read_text()), openff(system.molecules[0])), xyz)
    return {"total": total}, forces


def lammps_script(script: str, folder: Path) -> str:
    (folder / "run.in").write_text(script)
    done = subprocess.run([LMP, "-in", "run.in", "-log", "none"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return done.stdout


def lammps_tables(output: str) -> list[dict[str, float]]:
    """The rows of all energy tables."""
    rows, head = [], []
    for line in map(str.split, output.splitlines()):
        if line[:1] == ["Step"]:
            head = line
        elif line[:1] == ["Loop"]:
            head = []
        elif head:
            rows.append(dict(zip(head, map(float, line), strict=True)))
    return rows


def lammps(system: MMSystem, xyz: np.ndarray, folder: Path) -> Outcome:
    export.write(system, folder / "m.lmp", xyz=xyz)
    dump = "write_dump all custom forces.txt id fx fy fz modify sort id format float %.15g"
    output = lammps_script(f"{(folder / 'm.in').read_text()}\n{dump}\n", folder)
    assert not [line for line in output.splitlines() if "WARNING" in line and "atoms won't move" not in line]
    actual = lammps_tables(output)[0]
    return {**actual, "total": actual["PotEng"]}, np.loadtxt(folder / "forces.txt", skiprows=9, ndmin=2)[:, 1:]


def gromacs(program: str) -> Callable[[MMSystem, np.ndarray, Path], Outcome]:
    def run(system: MMSystem, xyz: np.ndarray, folder: Path) -> Outcome:
        export.write(system, folder / "m.top", xyz=xyz)
        box = float((folder / "m.gro").read_text().split()[-1])
        return gromacs_point(program, folder, box / 2 - 0.01), None

    return run


def gromacs_point(program: str, folder: Path, cutoff: float, settings: str = "") -> dict[str, float]:
    """Energies [kcal/mol] of `m.top` and `m.gro`, which stay, by GROMACS's names; short-range and 1-4 parts added."""
    (folder / "m.mdp").write_text(MDP.format(cutoff=cutoff) + settings)

    def call(*arguments, answer=None):
        done = subprocess.run(
            [program, "-quiet", "-nobackup", *arguments],
            cwd=folder,
            input=answer,
            text=True,
            capture_output=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # mdrun refuses to run where it differs from -ntomp
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]

    call("grompp", "-f", "m.mdp", "-c", "m.gro", "-p", "m.top", "-o", "m.tpr", "-po", "out.mdp")  # no -maxwarn
    call("mdrun", "-s", "m.tpr", "-deffnm", "run", "-ntmpi", "1", "-ntomp", "1", "-nb", "cpu", "-pin", "off")
    call("energy", "-f", "run.edr", "-dp", "-o", "m.xvg", answer=" ".join(map(str, range(1, 60))))
    names, values = [], []
    for line in (folder / "m.xvg").read_text().splitlines():
        if line.startswith("@ s") and "legend" in line:
            names.append(line.split('"')[1])
        elif not line.startswith(("#", "@")):
            values = [float(v) / KJ_PER_KCAL for v in line.split()[1:]]
    actual = dict(zip(names, values, strict=True))
    for name in ("LJ", "Coulomb"):
        actual[name] = actual.get(f"{name} (SR)", 0.0) + actual.get(f"{name}-14", 0.0)
    return {**actual, "total": actual["Potential"]}


def sander(system: MMSystem, xyz: np.ndarray, folder: Path) -> Outcome:
    """Energies by sander's names; 1-4 parts added, Coulomb energies with our constant instead of sander's."""
    export.write(system, folder / "m.prmtop", xyz=xyz)
    (folder / "m.in").write_text(SANDER_INPUT)
    arguments = ["-O", "-i", "m.in", "-p", "m.prmtop", "-c", "m.inpcrd", "-o", "m.out", "-r", "m.rst", "-inf", "m.inf"]
    done = subprocess.run([SANDER, *arguments], cwd=folder, capture_output=True, text=True)
    text = (folder / "m.out").read_text() if (folder / "m.out").exists() else ""
    assert done.returncode == 0, text[-2000:] + done.stdout + done.stderr
    first = text.partition("NSTEP")[2].partition("NSTEP")[0]
    actual = {name.strip(): float(u) for name, u in re.findall(r"([A-Z1][-A-Z0-9 ]*?) *= *(-?\d+\.\d{4})", first)}
    assert {"BOND", "ANGLE", "DIHED", "VDWAALS", "EEL", "1-4 VDW", "1-4 EEL"} <= set(actual), first
    actual |= {name: actual[name] * COULOMB / amber.CHARGE**2 for name in ("EEL", "1-4 EEL")}
    total = sum(actual.values())
    actual |= {"LJ": actual["VDWAALS"] + actual["1-4 VDW"], "Coulomb": actual["EEL"] + actual["1-4 EEL"]}
    return {**actual, "total": total}, None


DIHEDRALS = (
    "proper", "improper", "middle bond-torsion", "first bond-torsion", "last bond-torsion", "first angle-torsion",
    "second angle-torsion", "angle-angle-torsion", "bond-bond of a torsion",
)  # fmt: skip
LAMMPS_PARTS = (
    ("E_bond", ("bond",)),
    ("E_angle", ("angle", "1-3 distance", "bond-bond", "first bond-angle", "second bond-angle")),
    ("E_dihed", DIHEDRALS), ("E_impro", ("out of plane", "angle-angle")),
    ("E_vdwl", ("van der Waals",)), ("E_coul", ("charges",)),
)  # fmt: skip
SANDER_PARTS = (
    ("BOND", ("bond",)), ("ANGLE", ("angle",)), ("UB", ("1-3 distance",)), ("DIHED", ("proper", "improper")),
    ("LJ", ("van der Waals",)), ("Coulomb", ("charges",)),
)  # fmt: skip
GROMACS_PARTS = (
    ("Bond Morse Cubic-Bonds", ("bond",)), ("Angle G96Angle Quartic-Angles", ("angle",)),
    ("Bond-Cross", ("bond-bond",)), ("U-B", ("1-3 distance",)), ("Proper-Dih.", ("proper",)),
    ("Per.-Imp.-Dih.", ("improper",)),
    ("LJ", ("van der Waals",)), ("Coulomb", ("charges",)),
)  # fmt: skip
OPENFF = "" if importlib.util.find_spec("openff.interchange") else "needs the extra openff"
PROGRAMS = {
    "OpenMM": Program("system", openmm_system, 1e-9),
    "ForceField": Program("ffxml", openmm_ffxml, 1e-9),
    "OpenFF": Program("offxml", openff_toolkit, 1e-9, OPENFF),
    "LAMMPS": Program("lammps", lammps, 1e-8, "" if LMP else "needs LAMMPS (lmp, Debian package lammps)", LAMMPS_PARTS),
    "gmx": Program("gromacs", gromacs("gmx"), 1e-3, "" if shutil.which("gmx") else "needs gmx", GROMACS_PARTS),
    "gmx_d": Program("gromacs", gromacs("gmx_d"), 1e-6, "" if shutil.which("gmx_d") else "needs gmx_d", GROMACS_PARTS),
    "sander": Program(
        "amber", sander, 1e-3, "" if SANDER else "needs sander: scripts/install_engines.sh", SANDER_PARTS
    ),
}
"""By name; energies of LAMMPS have ten digits, those of sander four decimals."""


def needs(name: str):
    """Skips a test where the program is not installed."""
    return pytest.mark.skipif(bool(PROGRAMS[name].missing), reason=PROGRAMS[name].missing or name)
