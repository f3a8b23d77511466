"""What tests of data share."""

import dataclasses

import numpy as np
import torch


def assert_same(result, expected):
    """Two batches or records, or parts of them, are equal number by number, types and shapes included."""
    assert type(result) is type(expected)
    if isinstance(result, torch.Tensor):
        assert result.dtype == expected.dtype
        torch.testing.assert_close(result, expected, rtol=0, atol=0, equal_nan=True)
    elif isinstance(result, np.ndarray):
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)
    elif isinstance(result, dict):
        assert list(result) == list(expected)
        for key, value in result.items():
            assert_same(value, expected[key])
    elif dataclasses.is_dataclass(result):
        for field in dataclasses.fields(result):
            assert_same(getattr(result, field.name), getattr(expected, field.name))
    else:
        assert result == expected
