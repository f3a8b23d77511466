"""A share of the training molecules, for learning curves."""

from types import SimpleNamespace

import pytest

from espalike.data.store import Store
from espalike.training.prepare import _datasets

SAMPLE = Store.open("sample")
LEVELS = SAMPLE.manifest["levels"]


def keys(share, on_leak="error"):
    data = {"on_leak": on_leak, "held_out": True, "share": share}
    return [set(part.keys()) for part in _datasets([SAMPLE], LEVELS, data, SimpleNamespace)]


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
