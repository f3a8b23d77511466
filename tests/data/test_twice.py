"""Geometries that count twice in training, since two stores hold them."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from espalike.data.dataset import StoreDataset
from espalike.data.store import Store, write_store
from espalike.data.twice import refuse_same, repeated
from espalike.evaluation.run import read_records
from tests.data.conftest import MANIFEST, build_record


def dataset(folder, *stores):
    opened = [write_store(folder / str(n), records, manifest=MANIFEST) for n, records in enumerate(stores)]
    return StoreDataset(opened, "train", sorted({level for store in opened for level in store.manifest["levels"]}))


def part(record, chosen, **changes):
    """Some geometries of a record, as another data set may hold them."""
    conformers = replace(record.conformers.take(np.array(chosen)), source="other")
    return replace(record, id="again", conformers=replace(conformers, **changes))


def test_geometries_of_two_stores_are_counted(tmp_path):
    first = build_record("CCO", 5, split="train")
    data = dataset(tmp_path, [first, build_record("CO", 3, split="train")], [part(first, [4, 1, 2])])
    assert repeated(data) == (3, "0: CCO-0 and 1: again")


@pytest.mark.parametrize(
    "change",
    [
        lambda first: part(first, [0, 1], level="another"),
        lambda first: part(first, [0, 1], xyz=first.conformers.xyz[:2] + 0.01),
        lambda first: part(first, [0, 1], energy=first.conformers.energy[:2] + 0.01),
        lambda first: part(first, [0, 1], energy=np.full(2, np.nan)),
    ],
)
def test_other_geometries_levels_and_energies_are_no_repetitions(tmp_path, change):
    first = build_record("CCO", 5, split="train")
    assert repeated(dataset(tmp_path, [first], [change(first)])) == (0, "")


def test_the_same_store_twice_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    first = write_store(tmp_path / "a", [build_record("CCO", 5, split="train")], manifest=MANIFEST)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with pytest.raises(ValueError, match=r"a and \S+b have the same content, which would count twice"):
        refuse_same([first, Store.open(tmp_path / "b")])
    with pytest.raises(ValueError, match="a/ twice, and its entries would count twice"):
        read_records({"path": [str(tmp_path / "a"), f"{tmp_path}/a/"], "split": None, "level": None})
