"""Extended XYZ, written and read by ASE, through the suite of all readers; graphs without a SMILES."""

import re
from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from rdkit import Chem

from espalike.data.readers.base import ReaderError
from espalike.data.readers.extxyz import ExtxyzReader
from espalike.data.schema import Record, Rejection
from tests.data.readers.samples import BOHR, EV, HARTREE, Sample, graph_of, rdkit_of, sample
from tests.data.readers.suite import ReaderSuite

OPTIONS = {"level": "PBE0/def2-SVP"}


def frames(s, **info):
    """A sample's geometries as ASE has them."""
    images = []
    for xyz, energy, forces in zip(s.xyz, s.energy, s.forces, strict=True):
        atoms = Atoms(numbers=s.numbers, positions=xyz, info={"name": s.name, "charge": s.charge, **info})
        atoms.calc = SinglePointCalculator(atoms, energy=energy / EV, forces=forces / EV)
        images.append(atoms)
    return images


def write(path, samples, **info):
    ase.io.write(path, [a for s in samples for a in frames(s, smiles=s.smiles, **info)], format="extxyz")


def edit(pattern, text, count=1):
    """Replaces the first match in the file."""

    def spoil(path):
        before = path.read_text()
        after = re.sub(pattern, text, before, count=count)
        assert after != before
        path.write_text(after)

    return spoil


class TestExtxyz(ReaderSuite):
    reader = ExtxyzReader
    config = "extxyz"
    filename = "set.xyz"
    level = "PBE0/def2-SVP"
    options = OPTIONS
    contradicting = None
    refused = ("empty", "foreign")
    says = {  # noqa: RUF012
        "truncated": "the file ends within a frame of 7 atoms; get it again",
        "empty": "set.xyz: nothing in it",
        "foreign": "expected the number of atoms of a frame, found .*PNG",
        "missing array": "mol-0: 1 of 3 conformers, no energy; the first: no number 'energy' in the comment line",
        "wrong shape": "mol-0: 1 of 3 conformers, frame unreadable; the first: ASE cannot read the frame",
    }
    impossible = {  # noqa: RUF012
        "unit unknown": "files say no units; an unknown one in the option: test_units_given_twice",
        "unit contradicts": "files say no units; what the forces say of the energies is for the audit",
    }

    def write(self, path, samples):
        write(path, samples)

    def read(self, path):
        results: dict[str, list[Atoms]] = {}
        for atoms in ase.io.iread(path, index=":", format="extxyz"):
            results.setdefault(atoms.info["name"], []).append(atoms)
        return [
            Sample(
                name,
                images[0].info["smiles"],
                images[0].numbers,
                int(images[0].info["charge"]),
                np.stack([a.positions for a in images]),
                np.array([a.get_potential_energy() for a in images]) * EV,
                np.stack([a.get_forces() for a in images]) * EV,
                id=name,
            )
            for name, images in results.items()
        ]

    def spoil(self, path, name):
        {
            "missing array": edit(r" energy=\S+", ""),
            "wrong shape": edit(r"(\n[CHO] .*)\s\S+\n", r"\1\n"),
        }.get(name, lambda path: super(TestExtxyz, self).spoil(path, name))(path)


def bare(path, *samples, **info):
    """Frames without a SMILES."""
    ase.io.write(path, [a for s in samples for a in frames(s, **info)], format="extxyz")
    return path


def test_perceived_bonds_give_the_same_graphs(tmp_path):
    expected = TestExtxyz().samples()
    results = list(ExtxyzReader(bare(tmp_path / "a.xyz", *expected), level="HF/STO-3G"))
    assert [graph_of(r.molecule.smiles) for r in results] == [graph_of(s.smiles) for s in expected]
    assert [len(r.conformers.xyz) for r in results] == [len(s.xyz) for s in expected]


def test_perception_needs_the_charge_and_says_so(tmp_path):
    path = bare(tmp_path / "a.xyz", sample("CC(=O)[O-]"), sample("C[NH3+]"), charge=0)
    results = list(ExtxyzReader(path, level="HF/STO-3G"))
    assert all(isinstance(r, Rejection) for r in results)
    assert "mol-0: no bond orders fit its geometry at charge +0" in results[0].message
    (record,) = ExtxyzReader(bare(path, sample("CC(=O)[O-]"), charge=0), charge=-1, level="HF/STO-3G")
    assert record.molecule.net_charge == -1


def test_isomers_of_the_same_elements_in_order_are_told_apart_by_their_bonds(tmp_path):
    ethanol, ether = (by_element(s) for s in ("CCO", "COC"))
    assert ethanol.numbers.tolist() == ether.numbers.tolist()
    path = bare(tmp_path / "a.xyz", replace(ethanol, name=""), replace(ether, name=""), name="")
    first, second = ExtxyzReader(path, level="HF/STO-3G")
    assert graph_of(first.molecule.smiles) == graph_of(ethanol.smiles)
    assert graph_of(second.molecule.smiles) == graph_of(ether.smiles)
    assert (first.id, second.id) == ("a-1", "a-2")


def by_element(smiles):
    """A sample with its atoms sorted by element."""
    s = sample(smiles)
    order = np.argsort(-s.numbers, kind="stable")
    mol = rdkit_of(s.smiles)
    mol = Chem.RenumberAtoms(mol, order.tolist())
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(atom.GetIdx() + 1)
    return replace(
        s, smiles=Chem.MolToSmiles(mol), numbers=s.numbers[order], xyz=s.xyz[:, order], forces=s.forces[:, order]
    )


@pytest.mark.parametrize("smiles", ["OC", "CC(=O)[O-]", "N#CCSC", "c1ccoc1", "C[C@H](N)C(=O)O", "C[P@](F)CC"])
def test_an_unmapped_smiles_is_laid_on_the_geometry(tmp_path, smiles):
    expected = sample(smiles)
    path = bare(tmp_path / "a.xyz", expected)
    (record,) = ExtxyzReader(path, level="HF/STO-3G", smiles=smiles)
    assert graph_of(record.molecule.smiles) == graph_of(expected.smiles)
    table = tmp_path / "names.csv"
    table.write_text(f'smiles,name\n"{smiles}",mol-0\n')
    (again,) = ExtxyzReader(path, level="HF/STO-3G", smiles=str(table))
    assert again.molecule.smiles == record.molecule.smiles


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        ("CCC", "the geometry is C2H6O, the SMILES with its hydrogens C3H8"),
        ("COC", "the bonds that its distances show are not those of the SMILES"),
        ("CC[O-]", "mol-0: charge 0, -1 in the SMILES"),
        ("CC(", "is not a valid SMILES"),
    ],
)
def test_a_smiles_of_another_molecule_is_refused(tmp_path, smiles, message):
    (results,) = ExtxyzReader(bare(tmp_path / "a.xyz", sample("CCO")), level="HF/STO-3G", smiles=smiles)
    assert isinstance(results, Rejection)
    assert message in results.message


def test_the_other_stereoisomer_is_refused(tmp_path):
    path = bare(tmp_path / "a.xyz", sample("C[C@H](N)C(=O)O"))
    (results,) = ExtxyzReader(path, level="HF/STO-3G", smiles="C[C@@H](N)C(=O)O")
    assert results.reason == "stereo differs from SMILES"
    (record,) = ExtxyzReader(path, level="HF/STO-3G", smiles="CC(N)C(=O)O")
    assert "@" in record.molecule.smiles


def test_tables_of_smiles(tmp_path):
    path = bare(tmp_path / "a.xyz", sample("CCO"))
    (results,) = ExtxyzReader(path, level="HF/STO-3G", smiles={"other": "CCO"})
    assert results.reason == "no SMILES"
    with pytest.raises(ReaderError, match=r"names.csv: no such file"):
        ExtxyzReader(path, smiles=str(tmp_path / "names.csv"))
    (tmp_path / "names.csv").write_text("id,structure\n")
    with pytest.raises(ReaderError, match=r"columns are \['id', 'structure'\]"):
        ExtxyzReader(path, smiles=str(tmp_path / "names.csv"))


def test_other_keys_and_other_units(tmp_path):
    s = sample("CO")
    images = frames(s, smiles=s.smiles)
    for atoms, energy, forces in zip(images, s.energy, s.forces, strict=True):
        atoms.calc = SinglePointCalculator(atoms, energy=1.0, dipole=[0.1, 0.2, 0.3])
        atoms.info["REF_energy"] = energy / HARTREE
        atoms.arrays["REF_forces"] = forces * BOHR / HARTREE
    ase.io.write(tmp_path / "a.xyz", images, format="extxyz")
    units = "energies hartree; forces hartree/bohr"
    (results,) = ExtxyzReader(tmp_path / "a.xyz", level="HF/STO-3G", energy="REF_energy", units=units)
    assert "no column 'forces', but REF_forces; give the option forces" in results.message
    options = {"energy": "REF_energy", "forces": "REF_forces", "units": units, "level": "HF/STO-3G"}
    (record,) = ExtxyzReader(tmp_path / "a.xyz", **options)
    np.testing.assert_allclose(record.conformers.energy, s.energy, rtol=1e-9)
    np.testing.assert_allclose(record.conformers.forces, s.forces, atol=1e-4)
    np.testing.assert_allclose(record.conformers.dipole, np.tile([0.1, 0.2, 0.3], (3, 1)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"spin": 2}, "open shell"), ({"multiplicity": 3}, "open shell"), ({"charge": "x"}, "charge unreadable")],
)
def test_open_shells_and_odd_charges_are_refused(tmp_path, change, reason):
    s = sample("CO")
    write(tmp_path / "a.xyz", [s], **change)
    (results,) = ExtxyzReader(tmp_path / "a.xyz", level="HF/STO-3G")
    assert results.reason == reason


def test_periodic_cells_are_refused(tmp_path):
    images = frames(sample("CO"))
    for atoms in images:
        atoms.set_cell(np.eye(3) * 20)
        atoms.pbc = True
    ase.io.write(tmp_path / "a.xyz", images, format="extxyz")
    (results,) = ExtxyzReader(tmp_path / "a.xyz", level="HF/STO-3G")
    assert results.reason == "periodic"


def test_shuffled_frames_come_together(tmp_path):
    """With names or without; only their places in the file are kept in memory."""
    a, b = sample("CO", 4), replace(sample("CCO", 3), name="second")
    for name in (None, ""):
        images = [image for s in (a, b) for image in frames(s, **({} if name is None else {"name": name}))]
        order = [0, 4, 1, 2, 5, 6, 3]
        ase.io.write(tmp_path / "a.xyz", [images[i] for i in order], format="extxyz")
        results = list(ExtxyzReader(tmp_path / "a.xyz", level="HF/STO-3G"))
        assert [r.id for r in results] == (["mol-0", "second"] if name is None else ["a-1", "a-2"])
        for record, s in zip(results, (a, b), strict=True):
            np.testing.assert_allclose(record.conformers.xyz, s.xyz, atol=1e-7)
            np.testing.assert_allclose(record.conformers.energy, s.energy, rtol=1e-9)


def test_a_broken_frame_does_not_stop_the_others(tmp_path):
    path = tmp_path / "a.xyz"
    write(path, [sample("CO"), replace(sample("CCO"), name="second")])
    text = path.read_text()
    middle = text.index("\nC ", len(text) // 6)  # within the second frame
    path.write_text(text[:middle] + text[middle:].replace("\nC ", "\nQq ", 1))
    results = list(ExtxyzReader(path, level="HF/STO-3G"))
    assert [type(r) for r in results] == [Record, Rejection, Record]
    assert "not a frame of extended XYZ ('Qq')" in results[1].message
    assert [len(r.conformers.xyz) for r in results[::2]] == [2, 3]
    np.testing.assert_allclose(results[0].conformers.xyz, sample("CO").xyz[[0, 2]], atol=1e-7)


@pytest.mark.parametrize("line", ["0", "-5", "5.0", "six"])
def test_a_count_of_atoms_that_is_none_ends_the_reading_there(tmp_path, line):
    path = tmp_path / "a.xyz"
    write(path, [sample("CO")])
    path.write_text(f"{path.read_text()}{line}\n\n")
    record, rest = ExtxyzReader(path, level="HF/STO-3G")
    assert len(record.conformers.xyz) == 3
    assert f"expected the number of atoms of a frame, found '{line}'" in rest.message


def test_a_count_of_atoms_beyond_the_end(tmp_path):
    path = tmp_path / "a.xyz"
    write(path, [sample("CO")])
    path.write_text(f"{path.read_text()}999999999999\n\n")
    assert [type(r) for r in ExtxyzReader(path, level="HF/STO-3G")] == [Record, Rejection]


@pytest.mark.parametrize(
    "text", ["1\n\n\n", "1\nProperties=species:S\nH 0 0 0\n", "1\nProperties=species:S:x\nH 0 0 0\n"]
)
def test_frames_that_say_nothing(tmp_path, text):
    (tmp_path / "a.xyz").write_text(text)
    (results,) = ExtxyzReader(tmp_path / "a.xyz", level="HF/STO-3G")
    assert results.reason == "frame unreadable"


@pytest.mark.parametrize("text", [r"C/C=C\C(=O)N", r'"C/C=C\C(=O)N"', r'"C/C=C\\C(=O)N"'])
def test_backslashes_of_a_smiles(tmp_path, text):
    """ASE writes them as they are and reads them as nothing; other writers escape them."""
    cis = sample(r"C/C=C\C(=O)N")
    path = bare(tmp_path / "a.xyz", cis, smiles="HERE")
    path.write_text(path.read_text().replace("smiles=HERE", f"smiles={text}"))
    (record,) = ExtxyzReader(path, level="HF/STO-3G")
    assert isinstance(record, Record), record
    stereo = [Chem.MolToSmiles(Chem.RemoveHs(rdkit_of(text))) for text in (record.molecule.smiles, cis.smiles)]
    assert stereo[0] == stereo[1]
    path.write_text(path.read_text().replace("\\", "/"))
    if "//" not in path.read_text():
        (results,) = ExtxyzReader(path, level="HF/STO-3G")
        assert results.reason == "stereo differs from SMILES"


def test_a_gradient_is_read_as_one_and_not_lost(tmp_path):
    s = sample("CO")
    images = frames(s, smiles=s.smiles)
    for atoms, energy, forces in zip(images, s.energy, s.forces, strict=True):
        atoms.calc = SinglePointCalculator(atoms, energy=energy / EV)
        atoms.arrays["dft_gradient"] = -forces / EV
    ase.io.write(tmp_path / "a.xyz", images, format="extxyz")
    (lost,) = ExtxyzReader(tmp_path / "a.xyz", **OPTIONS)
    assert lost.reason == "forces named otherwise"
    assert "but dft_gradient; give the option forces" in lost.message
    (record,) = ExtxyzReader(tmp_path / "a.xyz", gradient="dft_gradient", **OPTIONS)
    np.testing.assert_allclose(record.conformers.forces, s.forces, atol=1e-6)
    (record,) = ExtxyzReader(tmp_path / "a.xyz", forces=None, **OPTIONS)
    assert record.conformers.forces is None


@pytest.mark.parametrize(
    ("pattern", "text", "reason"),
    [
        ("Properties=", "properties=", "columns without a name"),  # ASE would read positions only
        (r"energy=(-?)(\d)", r"energy=\1\2,", "energy unreadable"),
        (r"energy=(\S+)", r'energy="\1 eV"', "energy unreadable"),
    ],
)
def test_what_ase_would_leave_out(tmp_path, pattern, text, reason):
    write(tmp_path / "a.xyz", [sample("CO")])
    edit(pattern, text, count=0)(tmp_path / "a.xyz")
    results = list(ExtxyzReader(tmp_path / "a.xyz", **OPTIONS))
    assert {result.reason for result in results} == {reason}


def test_atomic_numbers_in_place_of_symbols(tmp_path):
    s = sample("CO")
    write(tmp_path / "a.xyz", [s])
    edit("species:S:1", "Z:I:1", count=0)(tmp_path / "a.xyz")
    for symbol, number in (("C", 6), ("O", 8), ("H", 1)):
        edit(rf"(?m)^{symbol} ", f"{number} ", count=0)(tmp_path / "a.xyz")
    (record,) = ExtxyzReader(tmp_path / "a.xyz", **OPTIONS)
    np.testing.assert_allclose(record.conformers.forces, s.forces, atol=1e-6)
    assert record.molecule.numbers.tolist() == s.numbers.tolist()
