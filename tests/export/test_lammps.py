"""LAMMPS files: rows of class2, the script, minimization and dynamics. Energies by LAMMPS: test_forms.py."""

import re

import numpy as np
import pytest

from espalike import chem, export
from espalike.export.parts import ExportError
from espalike.system import Bound, MMSystem
from espalike.terms.cross import BondAngle, BondBond
from espalike.tuples import Tuples
from tests.export.cases import ASPIRIN, case, field_model, only, perturbed, reference, with_term
from tests.export.programs import lammps_script, lammps_tables, needs
from tests.export.test_forms import assert_exact

pytestmark = needs("LAMMPS")


def test_torsions_of_any_phase(tmp_path):
    _, xyz, system = case(ASPIRIN)
    assert_exact("LAMMPS", only(system, system.bound("PeriodicProperPhase")), xyz, tmp_path)


def test_couplings_that_disagree_about_bond_lengths_are_rows_of_their_own(tmp_path):
    molecule, xyz, stretch = with_term(BondBond(), ASPIRIN, seed=1)
    bend = with_term(BondAngle(), ASPIRIN, seed=2)[2]
    both = MMSystem((*stretch.terms, *bend.terms), stretch.numbers, stretch.mol, (molecule,))
    assert_exact("LAMMPS", both, xyz, tmp_path)


def test_the_written_files_run_as_they_are(tmp_path):
    molecule = chem.from_smiles(ASPIRIN)
    system, xyz = field_model("class2").parametrize(molecule), perturbed(molecule)
    path = export.write(system, tmp_path / "my molecule.lmp", info={"model": "mine\n and yours"}, xyz=xyz)
    script = (tmp_path / "my molecule.in").read_text()
    assert path.read_text().startswith(f"Source: espalike {__import__('espalike').__version__}; Molecule: {ASPIRIN}")
    assert "# model: mine and yours\n" in script
    (row, *_) = lammps_tables(lammps_script(script, tmp_path))
    assert row["PotEng"] == pytest.approx(reference(system, xyz)[0], rel=1e-8)


@pytest.mark.parametrize("smiles", [ASPIRIN, "O"])
def test_the_commands_to_go_on_with_are_good(smiles, tmp_path):
    """Minimization lowers the energy; dynamics keeps every bond."""
    molecule = chem.from_smiles(smiles)
    export.write(field_model("class2").parametrize(molecule), tmp_path / "a.lmp")  # coordinates embedded
    script = (tmp_path / "a.in").read_text()
    first, further = script.split("To go on, e.g.:\n")
    further = further.replace("# ", "").replace("100000", "200")
    output = lammps_script(f"{first}\n{further}\nwrite_dump all custom x.txt id x y z modify sort id\n", tmp_path)
    assert "ERROR" not in output
    first_row, before, after, *_ = (row["PotEng"] for row in lammps_tables(output))
    assert before == pytest.approx(first_row)
    assert after < before
    xyz = np.loadtxt(tmp_path / "x.txt", skiprows=9)[:, 1:]
    lengths = np.linalg.norm(xyz[molecule.bonds[:, 0]] - xyz[molecule.bonds[:, 1]], axis=1)
    assert lengths.max() < 2.2


def test_what_is_refused():
    molecule, xyz, system = case("CCO")
    with pytest.raises(ExportError, match=r"CCO: expected finite coordinates of shape \(9, 3\), got \(8, 3\)"):
        export.texts(system, "lammps", xyz=xyz[:8])
    bound = system.bound("Coulomb")
    fewer = Tuples(bound.tuples.idx[1:], bound.tuples.mol[1:], bound.tuples.is14[1:])
    odd = MMSystem((Bound(bound.term, fewer, bound.values),), system.numbers, system.mol, (molecule,))
    with pytest.raises(ExportError, match=r"Coulomb do not follow from the bonds; format 'lammps'"):
        export.texts(odd, "lammps")


@pytest.mark.parametrize("without", ["", "PeriodicProper"])
@pytest.mark.parametrize("name", ["class1", "class2"])
def test_several_molecules_of_one_model_are_joined_as_the_page_says(name, without, tmp_path):
    """At 600 Å, where neutral molecules do not see each other; docs/exports.md has the commands.

    One of the molecules may lack a kind of terms, as sparse torsions do.
    """
    expected = 0.0
    for stem, smiles in (("a", "CC(=O)Nc1ccc(O)cc1"), ("b", "CC(=O)NC")):
        molecule = chem.from_smiles(smiles)
        system, xyz = field_model(name).parametrize(molecule), perturbed(molecule)
        if stem == "b":
            for bound in system.terms:
                if bound.term.name == without:
                    bound.values[:] = 0.0
        export.write(system, tmp_path / f"{stem}.lmp", xyz=xyz)
        expected += reference(system, xyz)[0]
    kinds = ("atom types", "bond types", "angle types", "dihedral types", "improper types")

    def counts(stem):
        text = (tmp_path / f"{stem}.lmp").read_text()
        return [re.search(rf"(\d+) {kind}", text)[1] for kind in kinds]

    first, second = ((tmp_path / f"{stem}.in").read_text() for stem in "ab")
    extra = " ".join(f"extra/{kind.split()[0]}/types {n}" for kind, n in zip(kinds, counts("b"), strict=True))
    extra += " extra/bond/per/atom 20 extra/angle/per/atom 60 extra/dihedral/per/atom 120 extra/improper/per/atom 60"
    lines = [dict(re.findall(r"(?m)^(\w+_style) +(.*)", script)) for script in (first, second)]
    assert all(set(line.split()) <= set(lines[0][kind].split()) for kind, line in lines[1].items())
    lammps_script(second, tmp_path)  # each file runs alone, too
    joined = (
        f'read_data "a.lmp" {extra} extra/special/per/atom 60\n'
        f'read_data "b.lmp" add append offset {" ".join(counts("a"))} shift 600 0 0'
    )
    head, tail = re.split(r"read_data .*", first)
    (row, *_) = lammps_tables(lammps_script(head + joined + tail, tmp_path))
    assert row["PotEng"] == pytest.approx(expected, abs=2e-4)
