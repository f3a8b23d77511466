"""A share of the training molecules, for learning curves."""

from dataclasses import replace

import pytest

from espalike.data.store import Store, write_store
from espalike.training.prepare import _datasets

SAMPLE = Store.open("sample")
LEVELS = SAMPLE.manifest["levels"]


def datasets(stores, share, on_leak="error"):
    data = {"on_leak": on_leak, "held_out": True, "share": share}
    return _datasets(stores, LEVELS, data, print)


def keys(share, on_leak="error"):
    return [set(part.keys()) for part in datasets([SAMPLE], share, on_leak)]


@pytest.mark.parametrize("on_leak", ["error", "resolve"])
def test_a_smaller_share_is_part_of_a_larger(on_leak):
    whole, val = keys(1.0, on_leak)
    half, val_of_half = keys(0.5, on_leak)
    quarter, _ = keys(0.25, on_leak)
    assert quarter < half < whole
    assert 0.3 < len(half) / len(whole) < 0.7
    assert val == val_of_half


def test_no_molecules_are_left():
    with pytest.raises(ValueError, match="no entries in split 'train' of sample"):
        keys(0.0)


@pytest.mark.parametrize("share", [1.0, 0.999999])
@pytest.mark.parametrize("on_leak", ["error", "resolve"])
def test_entries_without_a_split_are_not_used_and_change_no_split(tmp_path, share, on_leak):
    """With a share below 1, the molecules of such a store had left the training split of the other store."""
    records = [replace(SAMPLE.record(n), split="") for n in range(len(SAMPLE))]
    write_store(tmp_path / "bare", records, manifest=SAMPLE.manifest)
    for stores in ([SAMPLE, Store.open(tmp_path / "bare")], [Store.open(tmp_path / "bare"), SAMPLE]):
        for part, alone in zip(datasets(stores, share, on_leak), datasets([SAMPLE], 1.0), strict=True):
            assert [part.name_of(n) for n in range(len(part))] == [alone.name_of(n) for n in range(len(alone))]
