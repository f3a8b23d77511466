"""Amber files: other readers, names, provenance. Energies by sander: test_forms.py."""

import importlib.util
import itertools
import math

import numpy as np
import openmm
import pytest
from openmm import app

from espalike import export
from espalike.terms.angle import HarmonicAngle, UreyBradley
from espalike.terms.bond import HarmonicBond
from espalike.terms.coulomb import Coulomb
from espalike.terms.lennard_jones import LennardJones
from espalike.units import convert
from tests.export.cases import FAST, by_term, evaluate, geometry, random_system, with_equal_phases


@pytest.mark.parametrize("smiles", FAST[:4])
def test_another_reader_finds_the_same_energy(smiles, tmp_path):
    """OpenMM's reader, which divides charges by 18.2223 and has CODATA's constant."""
    molecule, xyz = geometry(smiles)
    system = with_equal_phases(molecule)
    path = export.write(system, tmp_path / "m.prmtop", xyz=xyz)
    built = app.AmberPrmtopFile(str(path)).createSystem(nonbondedMethod=app.NoCutoff)
    positions = app.AmberInpcrdFile(str(tmp_path / "m.inpcrd")).getPositions(asNumpy=True)._value
    np.testing.assert_allclose(positions * convert(1.0, "nm", "angstrom"), xyz, atol=1e-7)
    assert math.isclose(evaluate(built, positions * 10.0)[0], sum(by_term(system, xyz).values()), abs_tol=1e-5)


@pytest.mark.parametrize(
    "smiles", ["CC(=O)Oc1ccccc1C(=O)[O-]", "C[N+](C)(C)CCO", "NC(=[NH2+])NCCCC(N)C(=O)[O-]", "[Zn+2]"]
)
def test_readers_find_the_charges_of_the_model(smiles, tmp_path):
    molecule = geometry(smiles)[0]
    system = with_equal_phases(molecule)
    expected = system.bound("Coulomb").values[:, 0].numpy()
    path = str(export.write(system, tmp_path / "m.prmtop"))
    built = app.AmberPrmtopFile(path).createSystem(nonbondedMethod=app.NoCutoff)
    (force,) = (f for f in built.getForces() if isinstance(f, openmm.NonbondedForce))
    found = {"OpenMM": [force.getParticleParameters(i)[0]._value for i in range(molecule.n_atoms)]}
    if importlib.util.find_spec("parmed"):
        import parmed

        found["ParmEd"] = [atom.charge for atom in parmed.load_file(path).atoms]
    for reader, charges in found.items():
        np.testing.assert_allclose(charges, expected, atol=1e-8, err_msg=reader)
        assert abs(sum(charges) - molecule.net_charge) < 1e-7, reader


@pytest.mark.skipif(importlib.util.find_spec("parmed") is None, reason="needs ParmEd: scripts/install_engines.sh")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_parmed_reads_urey_bradley_terms(tmp_path):
    import parmed

    _, xyz = geometry(FAST[0])
    system = random_system(FAST[0], HarmonicBond(), HarmonicAngle(), UreyBradley())
    path = export.write(system, tmp_path / "m.prmtop", xyz=xyz)
    parm = parmed.load_file(str(path), xyz=str(tmp_path / "m.inpcrd"))
    assert len(parm.urey_bradleys) == len(system.bound("UreyBradley").tuples.idx)
    actual = sum(row.energy() for row in parm.urey_bradleys)
    assert math.isclose(actual, by_term(system, xyz)["UreyBradley"], abs_tol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("parmed") is None, reason="needs ParmEd: scripts/install_engines.sh")
@pytest.mark.filterwarnings("ignore")  # ParmEd's, and files that OpenMM leaves open
def test_parmed_converts_several_molecules_to_gromacs(tmp_path):
    """It joins atom types by name, those of different molecules too, and rounds parameters."""
    import parmed

    expected, places, types, joined = 0.0, [], [], None
    for n, smiles in enumerate(("C[N+](C)(C)CCO", "N#Cc1ccccc1Cl", "CC(=O)Nc1ccc(O)cc1")):
        _, xyz = geometry(smiles)
        terms = (HarmonicBond(), HarmonicAngle(), LennardJones(0.5), Coulomb())
        system = random_system(smiles, *terms)
        path = export.write(system, tmp_path / f"{n}.prmtop", xyz=xyz)
        one = parmed.load_file(str(path), xyz=str(tmp_path / f"{n}.inpcrd"))
        types += [atom.type for atom in one.atoms]
        joined = one if joined is None else joined + one
        expected += sum(by_term(system, xyz).values())
        places.append(xyz + 1000.0 * n)  # no charges meet
    assert len(set(types)) == len(types)
    assert all(len(name) == 4 and name.isalnum() and name[0].isalpha() for name in types)
    joined.save(str(tmp_path / "all.top"))
    built = app.GromacsTopFile(str(tmp_path / "all.top")).createSystem(nonbondedMethod=app.NoCutoff)
    assert math.isclose(evaluate(built, np.concatenate(places))[0], expected, abs_tol=0.05)


def test_poses_of_a_molecule_have_the_same_types(tmp_path):
    texts = []
    for name in ("a", "b"):
        molecule, xyz = geometry("CC(=O)N")
        text = export.write(with_equal_phases(molecule), tmp_path / f"{name}.prmtop", xyz=xyz).read_text()
        texts.append(text.partition("%FLAG AMBER_ATOM_TYPE")[2].partition("%FLAG")[0])
    assert texts[0] == texts[1]


def test_names_masses_and_provenance(tmp_path):
    molecule, _ = geometry("C[N+](C)(C)CCO")
    path = export.write(with_equal_phases(molecule), tmp_path / "m.prmtop", info={"Model": "a" * 100})
    assert max(map(len, path.read_text().splitlines())) <= 80
    assert "%COMMENT Model: aaa" in path.read_text()
    topology = app.AmberPrmtopFile(str(path)).topology
    assert [atom.element.atomic_number for atom in topology.atoms()] == molecule.numbers.tolist()
    bonds = {tuple(sorted((b[0].index, b[1].index))) for b in topology.bonds()}
    assert bonds == set(map(tuple, molecule.bonds.tolist()))


@pytest.mark.parametrize("ureys", [False, True])
def test_formats_follow_their_flags(ureys, tmp_path):
    """VMD, PyMOL with its plugin, and NAMD refused the file: they expect formats in the next line, NAMD an order."""
    terms = (HarmonicBond(), HarmonicAngle(), UreyBradley())[: 2 + ureys]
    lines = export.write(random_system(FAST[0], *terms), tmp_path / "m.prmtop").read_text().splitlines()
    assert [line.split()[1] for line in lines[1:7] if line[:5] == "%FLAG"] == [
        "CTITLE" if ureys else "TITLE",
        "POINTERS",
    ]
    after = {line.split()[1]: below for line, below in itertools.pairwise(lines) if line[:5] == "%FLAG"}
    assert [flag for flag, line in after.items() if not line.startswith("%FORMAT(")] == ["RADIUS_SET"]
    assert after["RADIUS_SET"].startswith("%COMMENT Source: espalike")
    read = [flag for flag in after if flag in NAMD]
    assert read == NAMD[ureys:]


NAMD = [
    "TITLE", "POINTERS", "ATOM_NAME", "CHARGE", "MASS", "ATOM_TYPE_INDEX", "NUMBER_EXCLUDED_ATOMS",
    "NONBONDED_PARM_INDEX", "RESIDUE_LABEL", "RESIDUE_POINTER", "BOND_FORCE_CONSTANT", "BOND_EQUIL_VALUE",
    "ANGLE_FORCE_CONSTANT", "ANGLE_EQUIL_VALUE", "DIHEDRAL_FORCE_CONSTANT", "DIHEDRAL_PERIODICITY",
    "DIHEDRAL_PHASE", "SOLTY", "LENNARD_JONES_ACOEF", "LENNARD_JONES_BCOEF", "BONDS_INC_HYDROGEN",
    "BONDS_WITHOUT_HYDROGEN", "ANGLES_INC_HYDROGEN", "ANGLES_WITHOUT_HYDROGEN", "DIHEDRALS_INC_HYDROGEN",
    "DIHEDRALS_WITHOUT_HYDROGEN", "EXCLUDED_ATOMS_LIST", "HBOND_ACOEF", "HBOND_BCOEF", "HBCUT", "AMBER_ATOM_TYPE",
    "TREE_CHAIN_CLASSIFICATION", "JOIN_ARRAY", "IROTAT",
]  # fmt: skip
"""The sections that NAMD reads one after the other, without going back."""
