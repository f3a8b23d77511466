"""GROMACS itself, in mixed and in double precision, gives our energies from the files written for it."""

import math
import os
import shutil
import subprocess

import numpy as np
import openmm
import pytest
from openmm import app

from espalike import export
from espalike.export.single import ExportError
from espalike.terms.angle import CosineAngle, HarmonicAngle, LinearMixtureAngle, QuarticAngle, UreyBradley
from espalike.terms.bond import HarmonicBond, LinearMixtureBond, MorseBond, QuarticBond
from espalike.terms.buckingham import Buckingham
from espalike.terms.buffered_14_7 import Buffered147
from espalike.terms.coulomb import Coulomb
from espalike.terms.cross import (
    AngleAngle,
    AngleAngleTorsion,
    AngleTorsion,
    BondAngle,
    BondBond,
    BondBond13,
    EndBondTorsion,
    MiddleBondTorsion,
)
from espalike.terms.double_exponential import DoubleExponential
from espalike.terms.lennard_jones import LennardJones
from espalike.terms.torsion import PeriodicProperOdd, RyckaertBellemans, WilsonImproper
from espalike.terms.torsion_torsion import TorsionTorsion
from espalike.units import KJ_PER_KCAL, convert
from tests.export.engine_cases import FAST, LEARNED, by_chance, by_term, class_one, compare, each_molecule, geometry

PROGRAMS = [
    pytest.param(
        name, tolerance, marks=pytest.mark.skipif(not shutil.which(name), reason=f"needs GROMACS' program {name}")
    )
    for name, tolerance in (("gmx", 1e-3), ("gmx_d", 1e-6))
]
"""kcal/mol: the issue's bound for mixed precision, rounding alone for double."""

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

NAMES = {
    "Bond": ("HarmonicBond", "LinearMixtureBond"),
    "Morse": ("MorseBond",),
    "Angle": ("HarmonicAngle", "LinearMixtureAngle"),
    "G96Angle": ("CosineAngle",),
    "Bond-Cross": ("BondBond",),
    "U-B": ("UreyBradley",),
    "Quartic Angles": ("QuarticAngle",),
    "Proper Dih.": ("PeriodicProper", "PeriodicProperPhase", "PeriodicProperOdd"),
    "Ryckaert-Bell.": ("RyckaertBellemans",),
    "Per. Imp. Dih.": ("PeriodicImproper",),
    "LJ": ("LennardJones",),
    "Coulomb": ("Coulomb",),
}


def run(program, folder, system, xyz) -> dict[str, float]:
    """Energies [kcal/mol] of a system's files by GROMACS's names."""
    export.write(system, folder / "m.top", "gromacs", xyz=xyz)
    box = float((folder / "m.gro").read_text().split()[-1])
    return one_point(program, folder, box / 2 - 0.01)


def one_point(program, folder, cutoff) -> dict[str, float]:
    """Energies [kcal/mol] of `m.top` and `m.gro` by GROMACS's names; short-range and 1-4 parts added."""
    (folder / "m.mdp").write_text(MDP.format(cutoff=cutoff))

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
    call("mdrun", "-s", "m.tpr", "-deffnm", "m", "-ntmpi", "1", "-ntomp", "1", "-nb", "cpu", "-pin", "off")
    call("energy", "-f", "m.edr", "-dp", "-o", "m.xvg", answer=" ".join(map(str, range(1, 60))))
    names, values = [], []
    for line in (folder / "m.xvg").read_text().splitlines():
        if line.startswith("@ s") and "legend" in line:
            names.append(line.split('"')[1])
        elif not line.startswith(("#", "@")):
            values = [float(v) / KJ_PER_KCAL for v in line.split()[1:]]
    found = dict(zip(names, values, strict=True))
    for name in ("LJ", "Coulomb"):
        found[name] = found.get(f"{name} (SR)", 0.0) + found.get(f"{name}-14", 0.0)
    return {**found, "total": found["Potential"]}


def check(program, tolerance, folder, system, smiles):
    _, xyz = geometry(smiles)
    ours = by_term(system, xyz)
    compare(ours, run(program, folder, system, xyz), NAMES, tolerance)
    assert any(abs(u) > 0.01 for u in ours.values()) or smiles == "[Na+]"


def others(smiles):
    """Every further form that GROMACS has, at once."""
    return by_chance(
        smiles,
        MorseBond(),
        LinearMixtureBond(),
        CosineAngle(),
        QuarticAngle(),
        LinearMixtureAngle(),
        UreyBradley(),
        BondBond(),
        PeriodicProperOdd(),
        RyckaertBellemans(),
        *LEARNED,
    )


@pytest.mark.parametrize(("program", "tolerance"), PROGRAMS)
@each_molecule
def test_class_one(program, tolerance, smiles, tmp_path):
    check(program, tolerance, tmp_path, class_one(smiles), smiles)


@pytest.mark.parametrize(("program", "tolerance"), PROGRAMS)
@each_molecule
def test_other_forms(program, tolerance, smiles, tmp_path):
    check(program, tolerance, tmp_path, others(smiles), smiles)


@pytest.mark.parametrize(("program", "tolerance"), PROGRAMS)
@pytest.mark.parametrize("mixing", ["lorentz-berthelot", "geometric", "waldman-hagler"])
def test_mixing_rules(program, tolerance, mixing, tmp_path):
    smiles = "Cc1ncc([N+](=O)[O-])n1CCO"
    check(program, tolerance, tmp_path, by_chance(smiles, LennardJones(0.4, mixing)), smiles)


@pytest.mark.parametrize(("program", "tolerance"), PROGRAMS)
def test_two_molecules_in_one_topology(program, tolerance, tmp_path):
    """Their types differ in name, their 1-4 factors in value; at 4 nm, beyond the cut-off, energies add up."""
    systems = [
        by_chance("CC#CC(=O)N", HarmonicBond(), LennardJones(0.3), Coulomb(0.4)),
        by_chance("CONC", HarmonicBond(), LennardJones(0.5), Coulomb(0.7)),
    ]
    geometries = [geometry("CC#CC(=O)N")[1], geometry("CONC")[1]]
    expected, atoms, names = 0.0, [], []
    for name, system, xyz in zip("ab", systems, geometries, strict=True):
        export.write(system, tmp_path / f"{name}.top", "gromacs", xyz=xyz + (0.0 if name == "a" else 40.0))
        expected += sum(by_term(system, xyz).values())
        atoms += (tmp_path / f"{name}.gro").read_text().splitlines()[2:-1]
        names.append((tmp_path / f"{name}.top").read_text().split()[-2])
    head = (tmp_path / "a.top").read_text().partition("; types, then")[0]
    includes = "\n".join(f'#include "{name}.itp"' for name in "abab")
    (tmp_path / "m.top").write_text(f"{head}\n{includes}\n[ system ]\ntwo\n[ molecules ]\n{names[0]} 1\n{names[1]} 1\n")
    (tmp_path / "m.gro").write_text("\n".join(["two", str(len(atoms)), *atoms, "8.0 8.0 8.0", ""]))
    assert math.isclose(one_point(program, tmp_path, 2.0)["total"], expected, abs_tol=tolerance)


REFUSED = (
    QuarticBond(),
    WilsonImproper(),
    BondAngle(),
    BondBond13(),
    AngleAngle(),
    MiddleBondTorsion(),
    EndBondTorsion(),
    AngleTorsion(),
    AngleAngleTorsion(),
    TorsionTorsion(),
    Buckingham(),
    Buffered147(),
    DoubleExponential(),
)


@pytest.mark.parametrize("term", REFUSED, ids=lambda term: term.name)
def test_what_cannot_be_expressed_is_refused(term, tmp_path):
    system = by_chance("CC(=O)Oc1ccccc1C(=O)[O-]", term)
    expected = f"format 'gromacs' cannot express {term.name}; formats that can express this force field: system, ffxml"
    with pytest.raises(ExportError, match=expected):
        export.write(system, tmp_path / "x.top", "gromacs")
    assert list(tmp_path.iterdir()) == []


def test_files_name_each_other_and_keep_the_given_coordinates(tmp_path):
    molecule, xyz = geometry(FAST[0])
    path = export.write(class_one(FAST[0]), tmp_path / "lig.and.top", "gromacs", xyz=xyz, info={"Model": "a ; b \\"})
    assert path == tmp_path / "lig.and.top"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lig.and.gro", "lig.and.itp", "lig.and.top"]
    assert path.read_text().count('#include "lig.and.itp"\n') == 2
    assert "; Model: a ; b\n" in (tmp_path / "lig.and.itp").read_text()
    lines = (tmp_path / "lig.and.gro").read_text().splitlines()[2:-1]
    found = np.array([[float(line[20 + 12 * n : 32 + 12 * n]) for n in range(3)] for line in lines])
    np.testing.assert_allclose(found * convert(1.0, "nm", "angstrom"), xyz, atol=1e-7)
    assert [line[10:15].strip().rstrip("0123456789") for line in lines] == [
        app.Element.getByAtomicNumber(int(z)).symbol for z in molecule.numbers
    ]
    with pytest.raises(ExportError, match=r"expected finite coordinates of shape \(20, 3\), got \(3, 3\)"):
        export.write(class_one(FAST[0]), tmp_path / "x.top", "gromacs", xyz=np.zeros((3, 3)))


def test_the_amber_scale_needs_no_charges_in_the_pairs():
    from espalike.export.gromacs import texts

    def functions(system):
        rows = (
            texts(system, xyz=geometry("CO")[1])[".itp"]
            .partition("[ pairs ]")[2]
            .partition("#endif")[0]
            .strip()
            .splitlines()
        )
        return {row.split()[2] for row in rows}

    terms = (HarmonicBond(), HarmonicAngle(), LennardJones())
    assert functions(by_chance("CO", *terms, Coulomb())) == {"1"}
    assert functions(by_chance("CO", *terms, Coulomb(scale14=0.5))) == {"2"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # OpenMM leaves the files open
@pytest.mark.parametrize("smiles", FAST[:3])
def test_another_reader_finds_the_same_energy(smiles, tmp_path):
    """OpenMM's reader, in float64: no binary is needed for this one."""
    _, xyz = geometry(smiles)
    system = class_one(smiles)
    path = export.write(system, tmp_path / "m.top", "gromacs", xyz=xyz)
    built = app.GromacsTopFile(str(path)).createSystem(nonbondedMethod=app.NoCutoff)
    context = openmm.Context(built, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    context.setPositions(xyz * convert(1.0, "angstrom", "nm"))
    found = context.getState(energy=True).getPotentialEnergy()._value / KJ_PER_KCAL
    assert math.isclose(found, sum(by_term(system, xyz).values()), abs_tol=1e-5)
