"""Where tensors are made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def on_cpu() -> Iterator[None]:
    """Make tensors on the CPU, whatever `torch.set_default_device` was given; also a decorator."""
    import torch  # here, so that an ingest need not import it

    if torch.get_default_device().type == "cpu":
        yield
    else:
        with torch.device("cpu"):
            yield
