"""SMIRNOFF files: drawings and orders of a molecule, other force fields, symmetry. Energies: test_forms.py."""

import copy
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from rdkit import Chem

from espalike import chem, export
from espalike.chem.complexes import complex_from_smiles
from espalike.export.parts import ExportError
from espalike.export.smirks import WholeMolecule
from espalike.system import Bound, MMSystem
from espalike.terms.torsion import PeriodicProperOdd, RyckaertBellemans
from espalike.topology import enumerate_tuples
from espalike.tuples import Kind
from tests.export.cases import ASPIRIN, evaluate, model, perturbed, reference, with_equal_phases
from tests.export.programs import interchange, openff
from tests.molecules import RESONANCE, SMALL

pytest.importorskip("openff.interchange", reason="needs the extra openff")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def to_offxml(system: MMSystem) -> str:
    return export.texts(system, "offxml")[".offxml"]


def matches(molecule, smirks) -> set[tuple[int, ...]]:
    """Atoms that the tags of a SMIRKS match, by RDKit."""
    query = Chem.MolFromSmarts(smirks)
    tags = {atom.GetAtomMapNum(): atom.GetIdx() for atom in query.GetAtoms() if atom.GetAtomMapNum()}
    found = chem.to_rdkit(molecule).GetSubstructMatches(query, uniquify=False, maxMatches=10**6)
    return {tuple(match[tags[n]] for n in sorted(tags)) for match in found}


SAGE = "openff_unconstrained-2.2.1.offxml"
FEW = (ASPIRIN, "CC#CC(=O)N", "C1C2CC12", "[NH4+]", "O")


def field(*sources: str):
    from openff.toolkit import ForceField

    return ForceField(*sources)


def test_torsions_that_are_a_fourier_series_after_some_algebra():
    molecule = chem.from_smiles("CC#CC(=O)NO")
    system, xyz = with_equal_phases(molecule), perturbed(molecule)
    plain = system.bound("PeriodicProper")
    for bound in (
        Bound(PeriodicProperOdd(), plain.tuples, torch.cat([0.5 * plain.values, 0.3 - plain.values], dim=1)),
        Bound(RyckaertBellemans(), plain.tuples, 0.7 - plain.values),
    ):
        one = MMSystem((plain, bound), system.numbers, system.mol, system.molecules)
        actual, expected = evaluate(interchange(field(to_offxml(one)), openff(molecule)), xyz), reference(one, xyz)
        assert actual[0] == pytest.approx(expected[0], rel=1e-9)
        np.testing.assert_allclose(actual[1], expected[1], atol=1e-8)


def resonance(name: str) -> None:
    """A file made from one drawing fits every other drawing that the toolkit accepts, in any atom order."""
    from openff.toolkit import Molecule as OpenFF

    rng = np.random.default_rng(3)
    first, *_ = forms = [chem.from_smiles(form) for form in RESONANCE[name]]
    system, xyz = with_equal_phases(first), perturbed(first)
    read, (expected, _) = field(to_offxml(system)), reference(system, xyz)
    for form in forms:
        order = rng.permutation(form.n_atoms)
        graph = Chem.RenumberAtoms(chem.to_rdkit(form), order.tolist())
        other = OpenFF.from_rdkit(graph, allow_undefined_stereo=True)
        assert evaluate(interchange(read, other), xyz[order])[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["benzene", "nitro", "guanidinium", "imidazolium"])
def test_another_drawing_and_order_of_the_molecule(name):
    resonance(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", RESONANCE)
def test_another_drawing_and_order_of_every_molecule(name):
    resonance(name)


@pytest.mark.parametrize("smiles", ["CC#CC(=O)N", "CN(C)C(=N)NC(=N)N"])
def test_loaded_after_sage_it_wins_for_its_molecule_and_touches_no_other(smiles):
    molecule = chem.from_smiles(smiles)
    system, xyz = with_equal_phases(molecule), perturbed(molecule)
    both, sage = field(SAGE, to_offxml(system)), field(SAGE)
    actual = evaluate(interchange(both, openff(molecule)), xyz)[0]
    assert actual == pytest.approx(reference(system, xyz)[0], rel=1e-8)  # Sage writes 1/1.2 with ten digits
    near = chem.from_smiles("NC(=O)C#CCC") if "#" in smiles else chem.from_smiles("CN(CC)C(=N)NC(=N)N")
    topology = openff(near).to_topology()
    for tag in ("Bonds", "Angles", "ProperTorsions", "ImproperTorsions", "vdW"):
        alone = {atoms: match.parameter_type.smirks for atoms, match in sage[tag].find_matches(topology).items()}
        assert alone == {a: match.parameter_type.smirks for a, match in both[tag].find_matches(topology).items()}


def test_interchanges_of_this_file_and_of_sage_can_be_combined():
    from openff.interchange import Interchange

    molecules = [chem.from_smiles("CC(=O)N"), chem.from_smiles("O")]
    system = with_equal_phases(molecules[0])
    sources = [field(to_offxml(system)), field(SAGE)]
    one, other = (
        Interchange.from_smirnoff(source, openff(molecule).to_topology())
        for source, molecule in zip(sources, molecules, strict=True)
    )
    xyz = [perturbed(molecule) + np.array([0.0, 0.0, 50.0 * n]) for n, molecule in enumerate(molecules)]
    parts = [evaluate(i.to_openmm(combine_nonbonded_forces=True), x)[0] for i, x in zip((one, other), xyz, strict=True)]
    both = one.combine(other)
    assert both["Electrostatics"].scale_14 == 0.8333333333
    together = evaluate(both.to_openmm(combine_nonbonded_forces=True), np.concatenate(xyz))[0]
    assert together == pytest.approx(sum(parts), abs=0.05)  # what neutral molecules at 50 Å have to do with each other


def test_scales_of_the_terms_are_in_the_file():
    molecule = chem.from_smiles(ASPIRIN)
    system, xyz = with_equal_phases(molecule), perturbed(molecule)
    terms = [Bound(copy.copy(b.term), b.tuples, b.values) for b in system.terms]
    for bound in terms:
        if bound.term.kind is Kind.PAIR:
            bound.term.scale14 = 0.37 if bound.term.name == "LennardJones" else 0.61
    scaled = MMSystem(tuple(terms), system.numbers, system.mol, system.molecules)
    expected = reference(scaled, xyz)[0]
    assert abs(expected - reference(system, xyz)[0]) > 0.1
    assert evaluate(interchange(field(to_offxml(scaled)), openff(molecule)), xyz)[0] == pytest.approx(
        expected, rel=1e-9
    )


def test_charges_that_differ_between_equivalent_atoms_are_refused():
    molecule = chem.from_smiles("CO")
    charges = model().parametrize(molecule).bound("Coulomb").values[:, 0].numpy().copy()
    hydrogens = [a for a in range(6) if molecule.numbers[a] == 1 and [0, a] in molecule.bonds.tolist()]
    charges[hydrogens] += [0.01, -0.02, 0.01]
    with pytest.raises(ExportError, match=r"CO: LibraryCharges of H3 and H4 differ.*mean.*'system'"):
        to_offxml(model().parametrize(molecule, charges=charges))
    charges[hydrogens] = charges[hydrogens].mean()
    assert "LibraryCharge" in to_offxml(model().parametrize(molecule, charges=charges))


def test_two_terms_on_one_bond_are_refused():
    system = model().parametrize(chem.from_smiles("CCO"))
    bonds = system.bound("HarmonicBond")
    with pytest.raises(ExportError, match="CCO: format 'offxml' cannot express HarmonicBond"):
        to_offxml(MMSystem((bonds, bonds), system.numbers, system.mol, system.molecules))


def test_a_pattern_counts_terminal_groups_and_tags_in_order():
    patterns = WholeMolecule(chem.from_smiles("CC(C)(C)c1ccccc1"))
    assert len(matches(patterns.molecule, patterns.smirks((0,)))) == 3
    assert len(matches(patterns.molecule, patterns.smirks((0, 1, 4)))) == 3
    for tuples in ((10,), (10, 0, 1), (0, 1, 2)):  # hydrogens of one of three methyl groups among the tags
        assert tuples in matches(patterns.molecule, patterns.smirks(tuples))
    assert not matches(patterns.molecule, WholeMolecule(chem.from_smiles("CC(C)(C)c1ccncc1")).smirks((0,)))


SYMMETRIC = [
    *SMALL,
    "CC(C)(C)c1ccccc1",
    "OCC(O)CO",
    "CC(=O)[O-]",
    "C1CC2CCC1CC2",
    "OP(=O)(O)OCC",
    "NS(=O)(=O)c1ccc(N)cc1",
]


@pytest.mark.parametrize("smiles", SYMMETRIC)
def test_images_are_what_rdkit_matches(smiles):
    molecule = chem.from_smiles(smiles)
    patterns, topology = (
        WholeMolecule(molecule),
        enumerate_tuples(molecule.numbers, molecule.bonds, molecule.orders, molecule.charges),
    )
    tuples = [
        np.arange(molecule.n_atoms)[:, None],
        topology.bonds,
        topology.angles,
        topology.propers,
        topology.impropers,
    ]
    for atoms in (tuple(row) for rows in tuples for row in rows.tolist()):
        assert patterns.images(atoms) == matches(molecule, patterns.smirks(atoms)), atoms


def test_a_large_molecule_is_refused():
    with pytest.raises(ExportError, match="602 atoms; format 'offxml' describes the whole molecule once"):
        export.texts(model().parametrize(chem.from_smiles("C" * 200, "wax")), "offxml")


def test_a_complex_is_refused():
    with pytest.raises(ExportError, match="several molecules in one graph; format 'offxml' describes one molecule"):
        export.texts(model().parametrize(complex_from_smiles("CO.O")), "offxml")


def test_no_file_for_a_graph_too_symmetric_to_match(monkeypatch):
    monkeypatch.setattr("espalike.export.smirks._MAX_MATCHES", 40)
    with pytest.raises(ExportError, match="symmetric in more than 40 ways"):
        to_offxml(model().parametrize(chem.from_smiles("C12C3C4C1C5C2C3C45")))


def test_the_file_says_where_it_comes_from_and_write_writes_it(tmp_path):
    system = model().parametrize(chem.from_smiles("CO"))
    path = export.write(system, tmp_path / "methanol.offxml", info={"model": "mine --- really"})
    text = path.read_text()
    assert "Molecule: CO" in text
    assert "model: mine - - - really" in text
    assert [section.tag for section in ET.fromstring(text)] == [
        "Bonds", "Angles", "ProperTorsions", "ImproperTorsions", "vdW", "Electrostatics", "LibraryCharges",
    ]  # fmt: skip
