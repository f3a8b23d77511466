"""References: cached on disk by what they depend on, computed once, in this process or in workers."""

import importlib.util
import io
import multiprocessing
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from espalike import chem
from espalike.assigners import AssignerError, reference
from espalike.assigners.reference import PooledReferences, References

pytestmark = pytest.mark.skipif(importlib.util.find_spec("openff") is None, reason="needs the OpenFF packages")


class Made:
    """Stands for the OpenFF assigner: counts its calls."""

    calls: list[str]

    def __init__(self):
        self.calls = []

    def reference(self, molecule):
        self.calls.append(molecule.smiles)
        if 7 in molecule.numbers:
            raise AssignerError(f"{molecule.name}: nitrogen is not covered")
        return np.linspace(-1, 1, molecule.n_atoms), np.full((molecule.n_atoms, 2), 2.0)


@pytest.fixture
def made(monkeypatch):
    assigner = Made()
    monkeypatch.setattr(reference, "_assigner", lambda *names: assigner)
    return assigner


def test_computed_once_and_kept_for_the_next_time(made, tmp_path):
    ethanol = chem.from_smiles("CCO")
    first = References(cache=tmp_path)
    for _ in range(3):
        charge, lj = first(ethanol)
    assert len(made.calls) == 1
    np.testing.assert_array_equal(charge, np.linspace(-1, 1, 9))
    assert lj.shape == (9, 2)
    charge, lj = References(cache=tmp_path)(ethanol)
    assert len(made.calls) == 1
    np.testing.assert_array_equal(charge, np.linspace(-1, 1, 9))
    assert [p.suffix for p in tmp_path.rglob("*") if p.is_file()] == [".npz"]
    References(cache=None)(ethanol)
    assert len(made.calls) == 2


def test_a_cache_that_cannot_be_written_costs_no_result(made, tmp_path):
    (tmp_path / "file").touch()  # in the place of a folder
    with pytest.warns(UserWarning, match="cache: reference charges are not kept in this cache"):
        charge, _ = References(cache=tmp_path / "file" / "cache")(chem.from_smiles("CCO"))
    np.testing.assert_array_equal(charge, np.linspace(-1, 1, 9))


def test_an_entry_is_named_by_all_it_depends_on(made, tmp_path, monkeypatch):
    ethanol, methanol = chem.from_smiles("CCO"), chem.from_smiles("CO")
    field = tmp_path / "mine.offxml"
    field.write_text("<one/>")
    paths = [
        References(cache=tmp_path).path(ethanol),
        References(cache=tmp_path).path(methanol),
        References("openff_unconstrained-2.1.0.offxml", cache=tmp_path).path(ethanol),
        References(charge_model="other.pt", cache=tmp_path).path(ethanol),
        References(str(field), cache=tmp_path).path(ethanol),
    ]
    field.write_text("<two/>")
    paths.append(References(str(field), cache=tmp_path).path(ethanol))
    monkeypatch.setattr(reference, "version", lambda package: "99")
    paths.append(References(cache=tmp_path).path(ethanol))
    assert len(set(paths)) == 7


def test_a_failure_is_reported_and_not_cached(made, tmp_path):
    references = References(cache=tmp_path)
    for _ in range(2):
        with pytest.raises(AssignerError, match="nitrogen is not covered"):
            references(chem.from_smiles("CN"))
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


OF_ANOTHER = {"charge": np.zeros(3), "lj": np.zeros((3, 2))}
"""A molecule of three atoms."""
CHARGED = {"charge": np.full(9, 0.1), "lj": np.ones((9, 2))}
CAST = {"charge": np.zeros(9, np.int8), "lj": np.ones((9, 2))}
TEXT = {"charge": np.zeros(9).astype("S8"), "lj": np.ones((9, 2))}


def archive(charge: bytes, encrypted: bool = False) -> bytes:
    """An archive whose charges are any bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        members.writestr("charge.npy", charge)
        members.writestr("lj.npy", charge)
    content = file.getvalue()
    at = content.index(b"PK\x01\x02") + 8  # the flags in the index of the archive
    return content[:at] + bytes([content[at] | encrypted]) + content[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [b"", b"PK\x03\x04 nothing", archive(b"no array"), archive(b"", True), OF_ANOTHER, CHARGED, CAST, TEXT],
)
def test_a_damaged_entry_is_computed_again(made, tmp_path, damage):
    ethanol = chem.from_smiles("CCO")
    References(cache=tmp_path)(ethanol)
    path = References(cache=tmp_path).path(ethanol)
    if isinstance(damage, dict):
        np.savez(path, **damage)
    else:
        path.write_bytes(damage)
    charge, _ = References(cache=tmp_path)(ethanol)
    assert len(charge) == 9
    assert len(made.calls) == 2


def test_no_pickle_is_read(made, tmp_path):
    ethanol = chem.from_smiles("CCO")
    path = References(cache=tmp_path).path(ethanol)
    path.parent.mkdir(parents=True)
    np.savez(path, charge=np.array([Path("/tmp")] * 9, dtype=object), lj=np.zeros((9, 2)))
    References(cache=tmp_path)(ethanol)
    assert len(made.calls) == 1


def test_an_unusable_force_field_is_not_an_error_of_the_molecule(monkeypatch, tmp_path):
    class Broken:
        def __init__(self, *names):
            raise AssignerError("vdW 'x' is not supported")

    monkeypatch.setattr(reference, "OpenFFAssigner", Broken)
    reference._assigner.cache_clear()
    with pytest.raises(LookupError, match="cannot be used: vdW 'x' is not supported"):
        References("odd.offxml")(chem.from_smiles("CCO"))


@pytest.mark.slow
def test_workers_give_what_one_process_gives(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    molecules = [chem.from_smiles(s) for s in ("CCO", "c1ccccc1", "CC(=O)N", "[Na+]", "CCO", "B", "CS(=O)(=O)N")]
    pooled, alone = PooledReferences(2, cache=tmp_path), References()
    for molecule in molecules:
        pooled.ahead(molecule)
    for molecule in molecules:
        if molecule.name == "B":  # the charge model has no boron
            with pytest.raises(AssignerError, match="B: no "):
                pooled(molecule)
            continue
        for values, expected in zip(pooled(molecule), alone(molecule), strict=True):
            np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6)
    assert len(list(tmp_path.rglob("*.npz"))) == 5
    pooled.close()
    assert not multiprocessing.active_children()
    assert os.environ["OMP_NUM_THREADS"] == "1"
