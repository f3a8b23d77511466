import numpy as np
import pytest

from espalike.data.split import LeakageError, check_leakage, hash_split, resolve_splits, split_of


def test_hash_split_is_stable_and_follows_the_fractions():
    keys = [f"KEY{i}" for i in range(5000)]
    sides = [hash_split(key, 0) for key in keys]
    share = {split: sides.count(split) / len(keys) for split in ("train", "val", "test")}
    np.testing.assert_allclose([share["train"], share["val"], share["test"]], [0.8, 0.1, 0.1], atol=0.02)
    assert [hash_split(key, 0) for key in keys] == sides
    assert [hash_split(key, 1) for key in keys] != sides
    # fixed for good: a model's held-out molecules must stay held out in later versions
    assert "".join(side[1] for side in sides[:12]) == "rerrrrrerrer"


def test_a_complex_outside_training_has_a_molecule_that_no_training_complex_has():
    molecules = [f"M{i}" for i in range(60)]
    side = {key: split_of(key, 2) for key in molecules}
    assert side == {key: hash_split(key, 2) for key in molecules}
    sides = {}
    for first in molecules:
        for second in molecules:
            found = split_of(f"{first}+{second}", 2)
            sides.setdefault(found, []).append({first, second})
            assert found == ("test" if "test" in (side[first], side[second]) else
                             "val" if "val" in (side[first], side[second]) else "train")  # fmt: skip
    known = set.union(*sides["train"])
    assert all(pair - known for held_out in ("val", "test") for pair in sides[held_out])
    with pytest.raises(ValueError, match="sum to 1"):
        split_of("A+B", 0, {"train": 0.5})


@pytest.mark.parametrize(("fractions", "expected"), [({"train": 1.0}, "train"), ({"test": 1.0}, "test")])
def test_hash_split_on_one_side(fractions, expected):
    assert {hash_split(f"K{i}", 0, fractions) for i in range(50)} == {expected}


@pytest.mark.parametrize("fractions", [{"train": 0.5}, {"train": 1.5, "val": -0.5}, {"training": 1.0}, {}])
def test_wrong_fractions(fractions):
    with pytest.raises(ValueError, match="sum to 1"):
        hash_split("K", 0, fractions)


def test_leakage_within_and_across_stores(record_of, store_of):
    clean = store_of(record_of("CO"), record_of("CO", seed=1), record_of("CC", split="test"), name="clean")
    check_leakage([clean])
    within = store_of(record_of("CO", id="one"), record_of("CO", split="val", id="two"), name="within")
    with pytest.raises(LeakageError, match=r"KEY-CO \(train: within/one; val: within/two\)"):
        check_leakage([within])
    other = store_of(
        record_of("CC", id="three"), record_of("O", split=""), record_of("O", split="test", seed=1), name="b"
    )
    check_leakage([other])
    with pytest.raises(LeakageError, match=r"KEY-CC \(test: clean/CC-0; train: b/three\)"):
        check_leakage([clean, other])


def test_many_leaks_are_counted(record_of, store_of):
    smiles = ["C" * n for n in range(1, 8)]
    a = store_of(*[record_of(s, 1) for s in smiles], name="a")
    b = store_of(*[record_of(s, 1, split="val") for s in smiles], name="b")
    with pytest.raises(LeakageError, match=r"^7 molecules(.|\n)*and 2 more"):
        check_leakage([a, b])


def test_resolve_takes_the_strictest_side(record_of, store_of):
    a = store_of(record_of("CO"), record_of("CC"), record_of("C", split="val"), record_of("O", split="test"), name="a")
    b = store_of(record_of("CC", split="val"), record_of("CO", split="test"), record_of("C", seed=2), name="b")
    resolution = resolve_splits([a, b])
    assert resolution.splits == {"KEY-CO": "test", "KEY-CC": "val", "KEY-C": "val", "KEY-O": "test"}
    assert resolution.moved == {"train → test": 1, "train → val": 2}
