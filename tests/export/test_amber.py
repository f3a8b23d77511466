"""Amber's `sander` gives our energies from the files written for it."""

import importlib.util
import math
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import app

from espalike import export
from espalike.export.single import ExportError
from espalike.terms.angle import CosineAngle, HarmonicAngle, LinearMixtureAngle, QuarticAngle, UreyBradley
from espalike.terms.bond import HarmonicBond, LinearMixtureBond, MorseBond, QuarticBond
from espalike.terms.buckingham import Buckingham
from espalike.terms.coulomb import Coulomb
from espalike.terms.cross import BondAngle, BondBond
from espalike.terms.double_exponential import DoubleExponential
from espalike.terms.lennard_jones import LennardJones
from espalike.terms.torsion import PeriodicImproper, PeriodicProperOdd, RyckaertBellemans, WilsonImproper
from espalike.terms.torsion_torsion import TorsionTorsion
from espalike.units import COULOMB, KJ_PER_KCAL, convert
from tests.export.engine_cases import FAST, LEARNED, by_chance, by_term, class_one, compare, each_molecule, geometry

OURS = Path(__file__).parents[2] / ".engines" / "bin" / "sander"
SANDER = os.environ.get("ESPALIKE_SANDER") or (str(OURS) if OURS.exists() else shutil.which("sander"))
needs_sander = pytest.mark.skipif(
    SANDER is None, reason="needs Amber's program sander: scripts/install_engines.sh, or ESPALIKE_SANDER names it"
)
TOLERANCE = 1e-3
"""kcal/mol; sander prints four decimals of each part."""

INPUT = "one point\n &cntrl\n  imin=1, maxcyc=1, ntb=0, igb=6, cut=9999.0, ntpr=1,\n /\n"
"""In vacuum, every pair counted; the first line printed is the energy where the minimizer starts."""

NAMES = {
    "BOND": ("HarmonicBond",),
    "ANGLE": ("HarmonicAngle",),
    "UB": ("UreyBradley",),
    "DIHED": ("PeriodicProper", "PeriodicProperPhase", "PeriodicProperOdd", "RyckaertBellemans", "PeriodicImproper"),
    "LJ": ("LennardJones",),
    "Coulomb": ("Coulomb",),
}


def run(folder, system, xyz) -> dict[str, float]:
    """Energies [kcal/mol] by sander's names; 1-4 parts added."""
    export.write(system, folder / "m.prmtop", "amber", xyz=xyz)
    (folder / "m.in").write_text(INPUT)
    arguments = ["-O", "-i", "m.in", "-p", "m.prmtop", "-c", "m.inpcrd", "-o", "m.out", "-r", "m.rst", "-inf", "m.inf"]
    done = subprocess.run([SANDER, *arguments], cwd=folder, capture_output=True, text=True)
    text = (folder / "m.out").read_text() if (folder / "m.out").exists() else ""
    assert done.returncode == 0, text[-2000:] + done.stdout + done.stderr
    first = text.partition("NSTEP")[2].partition("NSTEP")[0]
    found = {name.strip(): float(u) for name, u in re.findall(r"([A-Z1][-A-Z0-9 ]*?) *= *(-?\d+\.\d{4})", first)}
    assert {"BOND", "ANGLE", "DIHED", "VDWAALS", "EEL", "1-4 VDW", "1-4 EEL"} <= set(found), first
    total = sum(found.values())
    return {
        **found,
        "LJ": found["VDWAALS"] + found["1-4 VDW"],
        "Coulomb": found["EEL"] + found["1-4 EEL"],
        "total": total,
    }


def check(folder, system, smiles):
    _, xyz = geometry(smiles)
    ours = by_term(system, xyz)
    if "HarmonicAngle" in ours:
        ours["HarmonicAngle"] = clipped(system, xyz)
    compare(ours, run(folder, system, xyz), NAMES, TOLERANCE)
    assert any(abs(u) > 0.01 for u in ours.values()) or smiles == "[Na+]"


def clipped(system, xyz) -> float:
    """Our angle energy where sander keeps the cosine above -0.999: it takes angles beyond 177.4° for 177.4°."""
    bound = system.bound("HarmonicAngle")
    a, b, c = (xyz[bound.tuples.idx[:, n]] for n in range(3))
    cosine = ((a - b) * (c - b)).sum(-1) / np.linalg.norm(a - b, axis=-1) / np.linalg.norm(c - b, axis=-1)
    k, theta0 = bound.values.numpy().T
    return float((0.5 * k * (np.arccos(np.clip(cosine, -0.999, 0.999)) - theta0) ** 2).sum())


def others(smiles):
    """Every form that Amber has, series that become cosines among them, with learned 1-4 factors."""
    return by_chance(
        smiles,
        HarmonicBond(),
        HarmonicAngle(),
        UreyBradley(),
        PeriodicProperOdd(),
        RyckaertBellemans(),
        PeriodicImproper(),
        *LEARNED,
    )


@needs_sander
@each_molecule
def test_class_one(smiles, tmp_path):
    check(tmp_path, class_one(smiles), smiles)


@needs_sander
@each_molecule
def test_other_forms(smiles, tmp_path):
    check(tmp_path, others(smiles), smiles)


@needs_sander
@pytest.mark.parametrize("mixing", ["lorentz-berthelot", "geometric", "waldman-hagler"])
@pytest.mark.parametrize("scale14", [0.0, 0.4])
def test_mixing_rules_and_scales(mixing, scale14, tmp_path):
    """No torsions here: 1-4 pairs are carried by rows without energy."""
    smiles = "Cc1ncc([N+](=O)[O-])n1CCO"
    check(tmp_path, by_chance(smiles, LennardJones(scale14, mixing), Coulomb(scale14=0.7)), smiles)


REFUSED = (
    QuarticBond(),
    MorseBond(),
    LinearMixtureBond(),
    QuarticAngle(),
    CosineAngle(),
    LinearMixtureAngle(),
    WilsonImproper(),
    BondBond(),
    BondAngle(),
    TorsionTorsion(),
    Buckingham(),
    DoubleExponential(),
)


@pytest.mark.parametrize("term", REFUSED, ids=lambda term: term.name)
def test_what_cannot_be_expressed_is_refused(term, tmp_path):
    system = by_chance("CC(=O)Oc1ccccc1C(=O)[O-]", term)
    expected = f"format 'amber' cannot express {term.name}; formats that can express this force field: system, ffxml"
    with pytest.raises(ExportError, match=expected):
        export.write(system, tmp_path / "x.prmtop", "amber")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("smiles", FAST[:4])
def test_another_reader_finds_the_same_energy(smiles, tmp_path):
    """OpenMM's reader, which divides charges by 18.2223 where the file multiplied by the root of CODATA's constant."""
    _, xyz = geometry(smiles)
    system = class_one(smiles)
    path = export.write(system, tmp_path / "m.prmtop", "amber", xyz=xyz)
    built = app.AmberPrmtopFile(str(path)).createSystem(nonbondedMethod=app.NoCutoff)
    positions = app.AmberInpcrdFile(str(tmp_path / "m.inpcrd")).getPositions(asNumpy=True)
    np.testing.assert_allclose(positions._value * convert(1.0, "nm", "angstrom"), xyz, atol=1e-7)
    ours = by_term(system, xyz)
    ours["Coulomb"] *= COULOMB / 18.2223**2
    assert math.isclose(energy_of(built, positions), sum(ours.values()), abs_tol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("parmed") is None, reason="needs ParmEd: scripts/install_engines.sh")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_parmed_reads_urey_bradley_terms(tmp_path):
    import parmed

    _, xyz = geometry(FAST[0])
    system = others(FAST[0])
    path = export.write(system, tmp_path / "m.prmtop", "amber", xyz=xyz)
    parm = parmed.load_file(str(path), xyz=str(tmp_path / "m.inpcrd"))
    assert len(parm.urey_bradleys) == len(system.bound("UreyBradley").tuples.idx)
    found = sum(row.energy() for row in parm.urey_bradleys)
    assert math.isclose(found, by_term(system, xyz)["UreyBradley"], abs_tol=1e-5)


def energy_of(system: openmm.System, positions) -> float:
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    context.setPositions(positions)
    return context.getState(energy=True).getPotentialEnergy()._value / KJ_PER_KCAL


def test_names_masses_and_provenance(tmp_path):
    molecule, _ = geometry("C[N+](C)(C)CCO")
    path = export.write(class_one("C[N+](C)(C)CCO"), tmp_path / "m.prmtop", "amber", info={"Model": "a" * 100})
    assert max(map(len, path.read_text().splitlines())) <= 80
    assert "%COMMENT Model: aaa" in path.read_text()
    topology = app.AmberPrmtopFile(str(path)).topology
    assert [atom.element.atomic_number for atom in topology.atoms()] == molecule.numbers.tolist()
    assert {tuple(sorted((b[0].index, b[1].index))) for b in topology.bonds()} == set(
        map(tuple, molecule.bonds.tolist())
    )
