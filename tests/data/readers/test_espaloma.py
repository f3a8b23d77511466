"""espaloma's folders: graphs written and read by DGL, molecules by the OpenFF toolkit, through the suite."""

import functools
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from espalike.data.readers.base import ReaderError
from espalike.data.readers.espaloma import EspalomaReader, Loader, load
from espalike.data.schema import Record
from tests.data.readers.samples import BOHR, HARTREE, Sample, graph_of, rdkit_of, sample
from tests.data.readers.suite import DAMAGE, EDITS, ReaderSuite

dgl = pytest.importorskip("dgl", reason="needs the extra dgl")
GRADIENT = HARTREE / BOHR
OPTIONS = {"level": "B3LYP-D3BJ/DZVP", "isolated": False}


def graph(s, bonds=None, **data):
    """A sample as espaloma's heterograph: atoms, bonds in both directions, the molecule.

    Args:
        s: the sample.
        bonds: two atoms that are exchanged in the list of bonds.
        data: further data of atoms or of the molecule.
    """
    n = len(s.numbers)
    pairs = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in rdkit_of(s.smiles).GetBonds()]
    idxs = torch.tensor([*pairs, *((j, i) for i, j in pairs)])
    if bonds:
        order = torch.arange(n)
        order[list(bonds)] = order[list(bonds[::-1])]
        idxs = order[idxs]
    atoms, zeros = torch.arange(n), torch.zeros(n, dtype=torch.int64)
    g = dgl.heterograph(
        {
            ("n1", "n1_neighbors_n1", "n1"): (idxs[:, 0], idxs[:, 1]),
            ("n1", "n1_in_g", "g"): (atoms, zeros),
            ("n2", "n2_in_g", "g"): (torch.arange(len(idxs)), torch.zeros(len(idxs), dtype=torch.int64)),
        }
    )
    g.nodes["n2"].data["idxs"] = idxs
    g.nodes["n1"].data["q_ref"] = torch.full((n, 1), s.charge / n, dtype=torch.float64)
    g.nodes["n1"].data["xyz"] = torch.tensor(s.xyz / BOHR).swapaxes(0, 1)
    g.nodes["g"].data["u_qm"] = torch.tensor(s.energy / HARTREE)[None]
    if s.forces is not None:
        g.nodes["n1"].data["u_qm_prime"] = torch.tensor(-s.forces / GRADIENT).swapaxes(0, 1)
    g.nodes["g"].data["u_ref"] = g.nodes["g"].data["u_qm"] + 0.25  # what is left without nonbonded terms
    for key, value in data.items():
        g.nodes["n1" if value.shape[0] == n else "g"].data[key] = value
    return g


@functools.cache
def molecule_json(smiles):
    """The molecule as the OpenFF toolkit writes it."""
    openff = pytest.importorskip("openff.toolkit", reason="needs the extra openff").Molecule
    return openff.from_mapped_smiles(smiles, allow_undefined_stereo=True).to_json()


def put(folder, s, text=None, bonds=None, **data):
    folder.mkdir(parents=True, exist_ok=True)
    dgl.save_graphs(str(folder / "heterograph.bin"), [graph(s, bonds, **data)])
    (folder / "mol.json").write_text(text or molecule_json(s.smiles))
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
class TestEspaloma(ReaderSuite):
    reader = EspalomaReader
    config = "espaloma"
    filename = "set"
    level = "B3LYP-D3BJ/DZVP"
    options = OPTIONS
    contradicting = None
    refused = ()
    says = {  # noqa: RUF012
        "truncated": "mol-0: DGL cannot read",
        "empty": "mol-0: mol.json is not an OpenFF molecule",
        "foreign": "is not a file of DGL graphs",
        "permuted atoms": "mol-0: bonds of mol.json and of the graph",
        "permuted equal atoms": "mol-0: no conformer is left.*bonds differ",
        "wrong charge": "mol-0: atom 1 .*(valence|unpaired)",
        "missing array": "mol-0: node n1 has no data 'u_qm_prime'; there are: q_ref, xyz",
        "wrong shape": r"energies have shape \(2,\), expected \(3,\)",
    }
    impossible = {  # noqa: RUF012
        "unit unknown": "files say no units; an unknown one in the option: test_units_given_twice",
        "unit contradicts": "files say no units; what the forces say of the energies is for the audit",
        "duplicated ids": "names of folders are unique",
    }

    def write(self, path, samples):
        for s in samples:
            put(path / s.name, s)

    def read(self, path):
        from openff.toolkit import Molecule

        results = []
        for folder in sorted(path.iterdir()):
            (g,), _ = dgl.load_graphs(str(folder / "heterograph.bin"))
            molecule = Molecule.from_json((folder / "mol.json").read_text())
            results.append(
                Sample(
                    folder.name,
                    molecule.to_smiles(mapped=True),
                    np.array([a.atomic_number for a in molecule.atoms]),
                    round(molecule.total_charge.m),
                    g.nodes["n1"].data["xyz"].swapaxes(0, 1).numpy() * BOHR,
                    g.nodes["g"].data["u_qm"][0].numpy() * HARTREE,
                    -g.nodes["n1"].data["u_qm_prime"].swapaxes(0, 1).numpy() * GRADIENT,
                    id=folder.name,
                )
            )
        return results

    def spoil(self, path, name):
        folder, first = path / "mol-0", self.samples()[0]
        if name in DAMAGE:
            DAMAGE[name](folder / ("mol.json" if name == "empty" else "heterograph.bin"))
        elif name == "permuted atoms":  # the graph numbers its atoms in another way than the molecule
            put(folder, first.permuted(), bonds=first.swapped())
        elif name == "wrong charge":
            content = json.loads((folder / "mol.json").read_text())
            content["atoms"][0]["formal_charge"] = 1
            (folder / "mol.json").write_text(json.dumps(content))
        elif name == "wrong shape":
            put(folder, replace(first, energy=first.energy[1:]))
        else:
            put(folder, replace(first, forces=None) if name == "missing array" else EDITS[name](first))


def one(path, **options):
    (results,) = EspalomaReader(path, **{**OPTIONS, **options})
    return results


ETHENE = sample("C=C")


def text_of(s):
    """`mol.json` as the toolkit's documentation shows it, made by hand: these tests need no toolkit."""
    mol = rdkit_of(s.smiles)
    atoms = [{"atomic_number": a.GetAtomicNum(), "formal_charge": a.GetFormalCharge()} for a in mol.GetAtoms()]
    bonds = [
        {"atom1": b.GetBeginAtomIdx(), "atom2": b.GetEndAtomIdx(), "bond_order": int(b.GetBondTypeAsDouble())}
        for b in mol.GetBonds()
    ]
    return json.dumps({"name": "", "atoms": atoms, "bonds": bonds})


def test_the_json_of_a_json_text_as_espaloma_writes_it(tmp_path):
    record = one(put(tmp_path / "a", ETHENE, json.dumps(text_of(ETHENE))))
    assert graph_of(record.molecule.smiles) == graph_of(ETHENE.smiles)


def test_sets_without_the_qm_energies_apart(tmp_path):
    """`u_ref` is read only when it is asked for: nonbonded energies may have been subtracted from it."""
    folder = put(tmp_path / "a", ETHENE, text_of(ETHENE))
    (g,), _ = dgl.load_graphs(str(folder / "heterograph.bin"))
    g.nodes["g"].data.pop("u_qm")
    dgl.save_graphs(str(folder / "heterograph.bin"), [g])
    results = one(folder)
    assert "node g has no data 'u_qm'; there are: u_ref. Give the options energy and gradient" in results.message
    record = one(folder, energy="u_ref", gradient=None)
    np.testing.assert_allclose(record.conformers.energy, ETHENE.energy + 0.25 * HARTREE, rtol=1e-9)
    assert record.conformers.forces is None


def test_partial_charges_must_sum_to_the_charge(tmp_path):
    s = sample("CC(=O)[O-]")
    folder = put(tmp_path / "a", s, text_of(s), q_ref=torch.zeros(len(s.numbers), 1))
    assert "partial charges sum to 0.00, formal charges to -1" in one(folder).message


def test_stereo_is_that_of_the_geometry(tmp_path):
    left, right = sample("C[C@H](N)O"), sample("C[C@@H](N)O")
    smiles = [one(put(tmp_path / s.smiles[:9], s, text_of(s))).molecule.smiles for s in (left, right)]
    assert smiles[0] != smiles[1]
    assert [graph_of(text) for text in smiles] == [graph_of(left.smiles), graph_of(right.smiles)]


def test_other_units(tmp_path):
    s = replace(ETHENE, xyz=ETHENE.xyz * BOHR, energy=ETHENE.energy * HARTREE, forces=ETHENE.forces * GRADIENT)
    folder = put(tmp_path / "a", s, text_of(s))  # written in Å and kcal/mol then
    conf = one(folder, units="coords angstrom; energies kcal/mol; forces kcal/mol/angstrom").conformers
    np.testing.assert_allclose(conf.xyz, ETHENE.xyz)
    np.testing.assert_allclose(conf.energy, ETHENE.energy)
    np.testing.assert_allclose(conf.forces, ETHENE.forces, atol=1e-9)


def test_folders_at_any_depth_and_none(tmp_path):
    put(tmp_path / "set" / "x" / "a", ETHENE, text_of(ETHENE))
    assert one(tmp_path / "set").id == "x/a"
    (tmp_path / "none").mkdir()
    with pytest.raises(ReaderError, match="none: no molecule in it"):
        EspalomaReader(tmp_path / "none")


def dies(path):
    """Stands in for DGL over a damaged file: the process ends."""
    os.abort()


@pytest.mark.slow  # two processes that import DGL
def test_a_process_that_dies_costs_one_file(tmp_path, monkeypatch):
    path = put(tmp_path / "a", ETHENE, text_of(ETHENE)) / "heterograph.bin"
    with Loader() as loader:
        monkeypatch.setattr("espalike.data.readers.espaloma.load", dies)
        assert loader(path) == {"error": "it ended the process that read it"}
        monkeypatch.undo()
        in_this_process, in_another = load(path), loader(path)
    assert in_this_process.keys() == in_another.keys()
    for key, values in in_this_process.items():
        np.testing.assert_array_equal(in_another[key], values)


def test_isolated_is_the_default(tmp_path):
    folder = put(tmp_path / "a", ETHENE, text_of(ETHENE))
    (record,) = EspalomaReader(folder, level="HF/STO-3G")
    assert isinstance(record, Record)
    np.testing.assert_allclose(record.conformers.energy, ETHENE.energy, rtol=1e-9)
