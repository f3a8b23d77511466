"""The LAMMPS files, run by the real program, are our force field: total, per term, forces."""

import itertools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from espalike import chem, export
from espalike.energy import energy
from espalike.export.lammps import texts
from espalike.export.single import ExportError
from espalike.system import Bound, MMSystem
from espalike.terms.cross import BondAngle, BondBond
from espalike.tuples import Kind, Tuples
from tests.export.common import case, field_model, only, perturbed, with_term
from tests.molecules import DRUGLIKE, SMALL
from tests.terms.common import TERMS

LMP = shutil.which("lmp")
pytestmark = pytest.mark.skipif(LMP is None, reason="LAMMPS (lmp, Debian package lammps) is not installed")

FIELDS = ("class2", "class1", "class1_ub", "morse")
FAST = (
    "CC(=O)Oc1ccccc1C(=O)[O-]", "C[n+]1ccccc1", "CS(=O)(=O)[O-]", "FC(F)(F)c1ccc(Br)cc1", "C12C3C4C1C5C2C3C45",
    "CC#CC(=O)N", "C1=CC1", "C1C2CC12", "CC(C)N=[N+]=[N-]", "C=C=C=C", "c1nnn[n-]1", "NC(=S)N", "CSSC", "OO",
    "CC(=O)NO", "C1OCC1F", "C[N+](C)(C)CC(=O)[O-]", "OP(=O)(O)C(Cl)P(=O)(O)[O-]", "CN(C)C(=N)NC(=N)N",
    "C1COCCOCCOCCOCCO1", "[C-]#[N+]CC(=O)OC", "O", "[H][H]", "[Zn+2]", "O=C=O", "[NH4+]", "C#N", "F[P-](F)(F)(F)(F)F",
)  # fmt: skip
ASPIRIN = FAST[0]
REFUSED = {"DoubleExponential", "DoubleExponentialPerAtom", "Buffered147", "Buckingham", "TorsionTorsion"}
COLUMNS = {
    "PotEng": (), "E_bond": (Kind.BOND,), "E_angle": (Kind.ANGLE,), "E_dihed": (Kind.PROPER,),
    "E_impro": (Kind.IMPROPER, Kind.ANGLE_PAIR),
}  # fmt: skip
"""LAMMPS's columns and the terms in them; trefoils are dihedrals to LAMMPS, pair terms have a column each."""


def run(script: str, folder: Path) -> str:
    assert LMP is not None
    (folder / "run.in").write_text(script)
    done = subprocess.run([LMP, "-in", "run.in", "-log", "none"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return done.stdout


def tables(output: str) -> list[dict[str, float]]:
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


def evaluate(system: MMSystem, xyz: np.ndarray, folder: Path) -> tuple[dict[str, float], np.ndarray]:
    """Energies by column [kcal/mol] and forces [kcal/mol/Å]."""
    files = texts(system, xyz=xyz)
    (folder / "molecule.lmp").write_text(files[".lmp"])
    script = files[".in"].replace(export.STEM, "molecule")
    dump = "write_dump all custom forces.txt id fx fy fz modify sort id format float %.15g"
    output = run(f"{script}\n{dump}\n", folder)
    warnings = [line for line in output.splitlines() if "WARNING" in line and "No fixes defined" not in line]
    assert not warnings
    return tables(output)[0], np.loadtxt(folder / "forces.txt", skiprows=9, ndmin=2)[:, 1:]


def columns(system: MMSystem, xyz: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """The same from torch."""
    found = energy(system, torch.from_numpy(xyz)[None])
    split = dict.fromkeys([*COLUMNS, "E_vdwl", "E_coul"], 0.0)
    split["PotEng"] = found.energy.item()
    for bound, u in zip(system.terms, found.by_term, strict=True):
        column = next((name for name, kinds in COLUMNS.items() if bound.term.kind in kinds), "E_vdwl")
        column = {"PeriodicImproper": "E_dihed", "Coulomb": "E_coul"}.get(bound.term.name, column)
        split[column] += u.item()
    return split, found.forces[0].numpy()


def check(system: MMSystem, xyz: np.ndarray, folder: Path) -> None:
    (found, forces), (expected, expected_forces) = evaluate(system, xyz, folder), columns(system, xyz)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-8, abs=1e-8), name  # LAMMPS prints ten digits
    scale = max(1.0, np.abs(expected_forces).max())
    np.testing.assert_allclose(forces, expected_forces, rtol=0, atol=1e-10 * scale)


def fields(smiles: str, names: tuple[str, ...], folder: Path) -> None:
    molecule = chem.from_smiles(smiles)
    xyz = perturbed(molecule)
    for name in names:
        check(field_model(name).parametrize(molecule), xyz, folder)


@pytest.mark.parametrize(("smiles", "other"), [*zip(FAST, itertools.cycle(FIELDS[1:]), strict=False)])
def test_force_fields(smiles, other, tmp_path):
    fields(smiles, (FIELDS[0], other), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("smiles", DRUGLIKE + SMALL)
def test_every_force_field_for_every_molecule(smiles, tmp_path):
    fields(smiles, FIELDS, tmp_path)


@pytest.mark.parametrize("name", FIELDS)
def test_every_column_of_a_force_field_contributes(name):
    """The comparison above would hold for zeros: it is not about zeros."""
    molecule = chem.from_smiles(ASPIRIN)
    split, _ = columns(field_model(name).parametrize(molecule), perturbed(molecule))
    assert all(abs(u) > 0.1 for column, u in split.items() if column != "E_impro" or name == "class2")


@pytest.mark.parametrize("term", TERMS, ids=repr)
def test_each_term_alone_is_exact_or_refused(term, tmp_path):
    """Random parameters: equilibrium values that couplings do not share with each other or with any bond and angle."""
    if term.name in REFUSED:
        with pytest.raises(ExportError, match=rf"format 'lammps' cannot express {term.name}.*'system', 'ffxml' can"):
            texts(with_term(term, ASPIRIN)[2])
        return
    for smiles in (ASPIRIN, "C[N+](C)(C)CC(=O)[O-]"):
        _, xyz, system = with_term(term, smiles)
        assert abs(columns(system, xyz)[0]["PotEng"]) > 1e-3
        check(system, xyz, tmp_path)


def test_torsions_of_any_phase_and_two_terms_on_the_same_atoms(tmp_path):
    _, xyz, system = case(ASPIRIN)
    check(only(system, system.bound("PeriodicProperPhase")), xyz, tmp_path)
    twice = (*system.terms, system.bound("HarmonicBond"), system.bound("HarmonicAngle"), system.bound("PeriodicProper"))
    check(MMSystem(twice, system.numbers, system.mol, system.molecules), xyz, tmp_path)


def test_couplings_that_disagree_about_bond_lengths_are_rows_of_their_own(tmp_path):
    molecule, xyz, stretch = with_term(BondBond(), ASPIRIN, seed=1)
    bend = with_term(BondAngle(), ASPIRIN, seed=2)[2]
    check(MMSystem((*stretch.terms, *bend.terms), stretch.numbers, stretch.mol, (molecule,)), xyz, tmp_path)


def test_the_written_files_run_as_they_are(tmp_path):
    molecule = chem.from_smiles(ASPIRIN)
    system, xyz = field_model("class2").parametrize(molecule), perturbed(molecule)
    path = export.write(system, tmp_path / "my molecule.lmp", "lammps", info={"model": "mine\n and yours"}, xyz=xyz)
    script = (tmp_path / "my molecule.in").read_text()
    assert path.read_text().startswith(f"Source: espalike {__import__('espalike').__version__}; Molecule: {ASPIRIN}")
    assert "# model: mine and yours\n" in script
    assert tables(run(script, tmp_path))[0]["PotEng"] == pytest.approx(columns(system, xyz)[0]["PotEng"], rel=1e-8)


@pytest.mark.parametrize("smiles", [ASPIRIN, "O"])
def test_the_commands_to_go_on_with_are_good(smiles, tmp_path):
    """Minimization lowers the energy; dynamics keeps every bond."""
    molecule = chem.from_smiles(smiles)
    export.write(field_model("class2").parametrize(molecule), tmp_path / "a.lmp", "lammps")  # coordinates embedded
    script = (tmp_path / "a.in").read_text()
    first, further = script.split("To go on, e.g.:\n")
    further = further.replace("# ", "").replace("100000", "200")
    output = run(f"{first}\n{further}\nwrite_dump all custom x.txt id x y z modify sort id\n", tmp_path)
    assert "ERROR" not in output
    first_row, before, after, *_ = (row["PotEng"] for row in tables(output))
    assert before == pytest.approx(first_row)
    assert after < before
    xyz = np.loadtxt(tmp_path / "x.txt", skiprows=9)[:, 1:]
    lengths = np.linalg.norm(xyz[molecule.bonds[:, 0]] - xyz[molecule.bonds[:, 1]], axis=1)
    assert lengths.max() < 2.2


def test_what_is_refused():
    molecule, xyz, system = case("CCO")
    with pytest.raises(ExportError, match=r"CCO: expected coordinates of shape \(9, 3\), got \(8, 3\)"):
        texts(system, xyz=xyz[:8])
    bound = system.bound("Coulomb")
    fewer = Tuples(bound.tuples.idx[1:], bound.tuples.mol[1:], bound.tuples.is14[1:])
    odd = MMSystem((Bound(bound.term, fewer, bound.values),), system.numbers, system.mol, (molecule,))
    with pytest.raises(ExportError, match=r"Coulomb do not follow from the bonds; format 'lammps'"):
        texts(odd)
