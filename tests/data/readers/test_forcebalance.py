"""ForceBalance targets: `qdata.txt` and `scan.xyz` written and read by geomeTRIC's `Molecule`, through the suite."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from rdkit import Chem

from espalike.data.readers.base import ReaderError
from espalike.data.readers.forcebalance import ForceBalanceReader
from espalike.data.readers.structure import dihedral_angles
from espalike.data.schema import Record, Rejection
from tests.data.readers.samples import BOHR, HARTREE, Sample, graph_of, rdkit_of, sample, scan
from tests.data.readers.suite import ReaderSuite, foreign

GRADIENT = HARTREE / BOHR
# geomeTRIC leaves the files open that it reads
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
OPTIONS = {"level": "B3LYP-D3BJ/DZVP"}


def written(s):
    """The sample as geomeTRIC has it."""
    geometric = pytest.importorskip("geometric.molecule")
    molecule = geometric.Molecule()
    table = Chem.GetPeriodicTable()
    molecule.elem = [table.GetElementSymbol(int(z)) for z in s.numbers]
    molecule.xyzs = list(s.xyz)
    molecule.qm_energies = (s.energy / HARTREE).tolist()
    if s.forces is not None:
        molecule.qm_grads = list(-s.forces / GRADIENT)
    molecule.comms = [f"Dihedral ({k},) Energy {energy:.9f}" for k, energy in enumerate(molecule.qm_energies)]
    return molecule


def target(folder, s, structure="sdf", scan=True, **metadata):
    """A target's folder."""
    folder.mkdir(parents=True)
    molecule = written(s)
    molecule.write(str(folder / "qdata.txt"), ftype="qdata")
    if scan:
        molecule.write(str(folder / "scan.xyz"), ftype="xyz")
    mol = rdkit_of(s.smiles)
    conformer = Chem.Conformer(len(s.numbers))
    conformer.SetPositions(np.ascontiguousarray(s.xyz[-1]))
    mol.AddConformer(conformer)
    if structure == "sdf":
        Chem.MolToMolFile(mol, str(folder / "input.sdf"))
    if structure == "pdb":
        Chem.MolToPDBFile(mol, str(folder / "conf.pdb"))
    if metadata:
        (folder / "metadata.json").write_text(json.dumps(metadata))
    return folder


def edit(name, pattern, text, count=1):
    """Replaces the first matches in a file of the first target."""

    def spoil(path):
        file = path / "mol-0" / name
        before = file.read_text()
        after = re.sub(pattern, text, before, count=count)
        assert after != before
        file.write_text(after)

    return spoil


class TestForceBalance(ReaderSuite):
    reader = ForceBalanceReader
    config = "forcebalance"
    filename = "targets"
    level = "B3LYP-D3BJ/DZVP"
    options = OPTIONS
    first_file = "mol-0/qdata.txt"
    refused = ()
    says = {  # noqa: RUF012
        "truncated": "qdata.txt is cut short",
        "empty": "mol-0: qdata.txt holds no JOB",
        "foreign": "mol-0: .*input.sdf.*not a text",
        "wrong charge": r"mol-0: .*atom 6 ",
        "duplicated ids": "mol-0: qdata.txt holds JOB 0 twice",
        "missing array": "mol-0: 1 of 3 conformers, energies not finite",
        "wrong shape": "GRADIENT has 17 numbers, expected 18",
    }
    impossible = dict.fromkeys(("unit unknown", "unit contradicts"), "the format has one set of units")

    def write(self, path, samples):
        for s in samples:
            target(path / s.name, s)

    def read(self, path):
        geometric = pytest.importorskip("geometric.molecule")
        results = []
        for folder in sorted(path.iterdir()):
            data = geometric.Molecule(str(folder / "qdata.txt"), ftype="qdata")
            mol = Chem.MolFromMolFile(str(folder / "input.sdf"), removeHs=False)
            for atom in mol.GetAtoms():
                atom.SetAtomMapNum(atom.GetIdx() + 1)
            results.append(
                Sample(
                    folder.name,
                    Chem.MolToSmiles(mol),
                    np.array([a.GetAtomicNum() for a in mol.GetAtoms()]),
                    Chem.GetFormalCharge(mol),
                    np.stack([x.reshape(-1, 3) for x in data.xyzs]),
                    np.array(data.qm_energies) * HARTREE,
                    -np.stack([g.reshape(-1, 3) for g in data.qm_grads]) * GRADIENT,
                    id=folder.name,
                )
            )
        return results

    def spoil(self, path, name):
        edits = {
            "foreign": lambda path: foreign(path / "mol-0" / "input.sdf"),
            "wrong charge": edit("input.sdf", "M  END", "M  CHG  1   6  -1\nM  END"),
            "duplicated ids": edit("qdata.txt", "JOB 1", "JOB 0"),
            "missing array": edit("qdata.txt", "ENERGY.*\n", ""),
            "wrong shape": edit("qdata.txt", r"(GRADIENT.*)\s\S+\n", r"\1\n"),
        }
        edits.get(name, lambda path: super(TestForceBalance, self).spoil(path, name))(path)


def one(path, **options):
    (results,) = ForceBalanceReader(path, **{**OPTIONS, **options})
    return results


def test_forces_of_older_files_are_the_gradient_too(tmp_path):
    """`FORCES` is read by geomeTRIC, whose author renamed it, as `qm_grads`; the energies agree with that sign."""
    geometric = pytest.importorskip("geometric.molecule")
    s = sample("CO", 4)
    folder = target(tmp_path / "a", s)
    new = one(folder).conformers
    text = (folder / "qdata.txt").read_text()
    (folder / "qdata.txt").write_text(text.replace("GRADIENT", "FORCES"))
    theirs = geometric.Molecule(str(folder / "qdata.txt"), ftype="qdata").qm_grads
    old = one(folder).conformers
    np.testing.assert_array_equal(old.forces, new.forces)
    np.testing.assert_allclose(old.forces, -np.stack(theirs).reshape(4, -1, 3) * GRADIENT, rtol=1e-9)
    work = 0.5 * ((old.forces[1:] + old.forces[:-1]) * np.diff(old.xyz, axis=0)).sum((1, 2))
    np.testing.assert_allclose(np.diff(old.energy), -work, atol=2e-3)


def test_one_target_alone_and_targets_at_any_depth(tmp_path):
    target(tmp_path / "set" / "x" / "mol-0", sample("CO"))
    target(tmp_path / "set" / "y" / "mol-0", sample("CCO"))
    assert [r.id for r in ForceBalanceReader(tmp_path / "set", **OPTIONS)] == ["x/mol-0", "y/mol-0"]
    assert one(tmp_path / "set" / "x" / "mol-0").id == "mol-0"
    (tmp_path / "none").mkdir()
    with pytest.raises(ReaderError, match="none: no target in it"):
        ForceBalanceReader(tmp_path / "none")


def test_targets_without_gradients(tmp_path):
    s = sample("CO")
    record = one(target(tmp_path / "a", replace(s, forces=None)))
    assert record.conformers.forces is None
    np.testing.assert_allclose(record.conformers.energy, s.energy, rtol=1e-9)


def test_scan_alone_has_its_energies_in_the_comments(tmp_path):
    s = sample("CC(=O)[O-]")
    folder = target(tmp_path / "a", s)
    (folder / "qdata.txt").unlink()
    record = one(folder)
    np.testing.assert_allclose(record.conformers.energy, s.energy, atol=2e-6)
    np.testing.assert_allclose(record.conformers.xyz, s.xyz, atol=1e-6)
    (folder / "scan.xyz").write_text(re.sub("Energy.*", "", (folder / "scan.xyz").read_text()))
    assert one(folder).reason == "no energies"


@pytest.mark.parametrize("way", ["option", "unmapped", "metadata", "perceived", "pdb", "pdb and metadata"])
def test_graphs_without_a_structure_file(tmp_path, way):
    s = sample("CC(=O)[O-]")
    metadata = {"attributes": {"canonical_isomeric_explicit_hydrogen_mapped_smiles": s.smiles}}
    folder = target(
        tmp_path / "a",
        s,
        structure="pdb" if "pdb" in way else None,
        scan=way in ("unmapped", "perceived"),
        **(metadata if "metadata" in way else {}),
    )
    options = {
        "option": {"smiles": s.smiles},
        "unmapped": {"smiles": "CC([O-])=O"},
        "perceived": {"charge": -1},
        "pdb": {"smiles": {"a": "CC([O-])=O"}},
    }
    record = one(folder, **options.get(way, {}))
    assert isinstance(record, Record), record
    assert graph_of(record.molecule.smiles) == graph_of(s.smiles)


def test_nothing_says_the_elements(tmp_path):
    assert one(target(tmp_path / "a", sample("CO"), structure=None, scan=False)).reason == "no structure"


def test_scan_of_another_calculation(tmp_path):
    s = sample("CO")
    folder = target(tmp_path / "a", s)
    written(replace(s, xyz=s.xyz + 0.01)).write(str(folder / "scan.xyz"), ftype="xyz")
    assert one(folder).reason == "scan.xyz differs from qdata.txt"
    (folder / "scan.xyz").write_text("nonsense\n")
    assert one(folder).reason == "scan.xyz unreadable"


def test_two_structures(tmp_path):
    folder = target(tmp_path / "a", sample("CO"))
    (folder / "other.sdf").write_text((folder / "input.sdf").read_text())
    assert one(folder).reason == "several structures"


ANGLES = [-120.0, -60.0, 0.0, 60.0, 180.0]


@pytest.fixture
def ethanol():
    """A torsion scan of ethanol, its atoms in random order; the driven atoms and the angles."""
    return *scan("CCO", "[H]OCC", ANGLES), ANGLES


def test_torsion_angles_are_those_of_rdkit(ethanol):
    s, atoms, angles = ethanol
    off = dihedral_angles(s.xyz, np.array(atoms)) - angles
    np.testing.assert_allclose((off + 180) % 360 - 180, 0, atol=1e-4)


def test_torsion_profiles_say_what_was_driven(tmp_path, ethanol):
    s, atoms, angles = ethanol
    metadata = {"dihedrals": [atoms], "grid_spacing": [60], "torsion_grid_ids": [[angle] for angle in angles]}
    record = one(target(tmp_path / "a", s, **metadata))
    assert record.dihedral.tolist() == atoms
    assert one(target(tmp_path / "b", s, dihedrals=[atoms])).dihedral.tolist() == atoms
    two = {"dihedrals": [atoms, atoms[::-1]], "torsion_grid_ids": [[a, a] for a in angles]}
    assert one(target(tmp_path / "c", s, **two)).dihedral is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: {**m, "dihedrals": [[m["dihedrals"][0][i] for i in (1, 0, 2, 3)]]}, "are atoms counted from 0"),
        (lambda m: {**m, "torsion_grid_ids": m["torsion_grid_ids"][::-1]}, "the grid says"),
        (lambda m: {**m, "torsion_grid_ids": m["torsion_grid_ids"][1:]}, "4 grid angles, 5 geometries"),
        (lambda m: {**m, "dihedrals": [[0, 1, 2, 99]]}, "of 9 atoms, from 0"),
        (lambda m: {**m, "dihedrals": [[0, 1, 2]]}, "driven torsions are"),
    ],
)
def test_wrong_metadata_are_caught(tmp_path, ethanol, change, message):
    s, atoms, angles = ethanol
    metadata = {"dihedrals": [atoms], "torsion_grid_ids": [[angle] for angle in angles]}
    results = one(target(tmp_path / "a", s, **change(metadata)))
    assert isinstance(results, Rejection)
    assert message in results.message
