"""Files of related molecules in one program: isomers, copies in another order, two ligands, poses."""

import io
import warnings

import numpy as np
import openmm
import pytest
from openmm import app

from espalike import chem, export
from espalike.chem.molecule import Molecule
from espalike.export.parts import Single, select
from espalike.export.text import symbols
from tests.export.cases import (
    evaluate,
    field_model,
    model,
    perturbed,
    reference,
    reordered,
    to_ffxml,
    with_equal_phases,
)
from tests.export.programs import interchange, openff

RELATED = {
    "R and S": ("C[C@H](F)O", "C[C@@H](F)O"),
    "cis and trans": ("F/C=C/Cl", "F/C=C\\Cl"),
    "another order": ("CC(=O)Nc1ccc(O)cc1", "Oc1ccc(NC(C)=O)cc1"),
    "a symmetric one": ("CC(C)(C)c1ccc(Br)cc1", "Brc1ccc(C(C)(C)C)cc1"),
    "another drawing": ("NC(N)=[NH2+]", "NC(=[NH2+])N"),
}
LONG = [
    pytest.param("class2_dexp", kind, marks=[pytest.mark.slow] * (kind != "another order")) for kind in RELATED
]  # OpenMM compiles long expressions
COPIES = ("CCO", "CCO")
TWO = ("CC(=O)[O-]", "Clc1ccncc1")


def named(pair: tuple[str, str]) -> tuple[Molecule, Molecule]:
    first, second = pair
    return chem.from_smiles(first, "first"), chem.from_smiles(second, "second")


@pytest.mark.parametrize(("name", "kind"), [*(("class1", kind) for kind in RELATED), *LONG])
def test_ffxml(name, kind):
    """Whichever file is loaded first, each molecule has its energy, once."""
    molecules = named(RELATED[kind])
    systems = [field_model(name).parametrize(molecule) for molecule in molecules]
    for loaded in (systems, systems[::-1]):
        field = app.ForceField(*(io.StringIO(to_ffxml(system)) for system in loaded))
        for molecule, system in zip(molecules, systems, strict=True):
            xyz = perturbed(molecule)
            built = field.createSystem(export.to_topology(molecule))
            assert evaluate(built, xyz)[0] == pytest.approx(reference(system, xyz)[0], rel=1e-8)


def test_types_do_not_depend_on_the_order_of_atoms():
    """Dodecahedrane has many symmetries, and RDKit's ranks of broken ties are not canonical there."""
    molecule, found = chem.from_smiles("C12C3C4C5C1C6C7C2C8C3C9C4C1C5C6C2C7C8C9C12"), set()
    for seed in range(4):
        one = Single(select(model().parametrize(reordered(molecule, seed))), "ffxml")
        types = np.array(one.shared_types)
        bonds = sorted(sorted((types[i], types[j])) for i, j in one.molecule.bonds.tolist())
        found.add(repr([types[one.canonical].tolist(), bonds]))
    assert len(found) == 1


def test_ffxml_of_other_charges_is_not_taken_for_the_same():
    molecule = chem.from_smiles("CCO")
    charges = np.array([0.1, 0.1, -0.6, *[0.0] * 5, 0.4])
    texts = [to_ffxml(model().parametrize(molecule, q)) for q in (None, charges)]
    field = app.ForceField(*map(io.StringIO, texts))
    with pytest.raises(Exception, match="Multiple non-identical matching templates"):
        field.createSystem(export.to_topology(molecule))
    names = [template.name for template in field._templates.values() if template.name.startswith("M")]
    (residue,) = (topology := export.to_topology(molecule)).residues()
    charge = []
    for chosen in names:
        built = field.createSystem(topology, residueTemplates={residue: chosen})
        (force,) = (f for f in built.getForces() if isinstance(f, openmm.NonbondedForce))
        charge.append([force.getParticleParameters(n)[0]._value for n in range(9)])
    assert any(np.allclose(row, charges, atol=1e-9) for row in charge)
    assert not np.allclose(*charge)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("pair", [*RELATED.values(), COPIES, TWO], ids=[*RELATED, "copies", "two ligands"])
def test_offxml(pair):
    pytest.importorskip("openff.interchange", reason="needs the extra openff")
    from openff.toolkit import ForceField

    molecules = named(pair)
    systems = [with_equal_phases(molecule) for molecule in molecules]
    field = ForceField(*(export.texts(system, "offxml")[".offxml"] for system in systems))
    for molecule, system in zip(molecules, systems, strict=True):
        xyz = perturbed(molecule)
        built = interchange(field, openff(molecule))
        assert evaluate(built, xyz)[0] == pytest.approx(reference(system, xyz)[0], rel=1e-8)


def test_mdanalysis_reads_the_itp(tmp_path):
    mdanalysis = pytest.importorskip("MDAnalysis", reason="needs MDAnalysis")
    molecule = chem.from_smiles("CC(=O)Nc1cc(Cl)c(O)cc1Br")
    system = with_equal_phases(molecule)
    export.write(system, tmp_path / "lig.top", xyz=perturbed(molecule))
    for name in ("lig.itp", "lig.top"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own
            settings = {"infer_system": True} if name == "lig.itp" else {}
            read = mdanalysis.Universe(tmp_path / name, tmp_path / "lig.gro", topology_format="ITP", **settings)
        np.testing.assert_allclose(read.atoms.charges, system.bound("Coulomb").values[:, 0].numpy(), atol=1e-6)
        assert {tuple(sorted(bond)) for bond in read.bonds.indices.tolist()} == set(map(tuple, molecule.bonds.tolist()))
        np.testing.assert_allclose(read.atoms.masses, molecule.masses(), atol=1e-2)
        assert read.atoms.elements.tolist() == [symbol.upper() for symbol in symbols(molecule)]
