"""The content of checkpoints: it has a hash, since torch reads changed bytes of a checkpoint without a complaint."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

_HASH = "sha256"


def seal(content: dict[str, Any]) -> None:
    """Add the hash of all other entries."""
    content[_HASH] = _digest(content)


def load(path: Path) -> dict[str, Any] | None:
    """The content of a checkpoint; None when the file is missing, damaged, changed or something else.

    Checkpoints of earlier versions have no hash.
    """
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except Exception:  # of damaged files, torch raises errors of any type
        return None
    if not isinstance(content, dict) or (_HASH in content and content[_HASH] != _digest(content)):
        return None
    return content


def _digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of all entries but the hash."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(f"{value.dtype} {tuple(value.shape)};".encode())
            digest.update(flat.view(torch.uint8).numpy().data)
        elif isinstance(value, Mapping | list | tuple):
            digest.update(f"{len(value)}[".encode())
            for item in value.items() if isinstance(value, Mapping) else value:
                add(item)
        else:
            digest.update(f"{value!r};".encode())

    add({name: value for name, value in content.items() if name != _HASH})
    return digest.hexdigest()
