"""Model files: safetensors with a JSON description, which is data and never code.

A file of an earlier version is migrated when it is read, by one function per version. Input columns of the network
are found by the names of the atom features, so a model is still read when this version computes more features.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any

from torch import Tensor

from espalike.features import FEATURES
from espalike.files import replacing

VERSION = 3
"""Version of the layout that is written. A change that an older reader would misread raises it."""
DEFAULT = "espalike-small"
"""Name of the shipped model that is used by default."""
UNITS = {"length": "angstrom", "energy": "kcal/mol", "charge": "e", "angle": "radian"}
INPUT_LAYER = "encoder.enter.weight"
"""End of the name of a network's first weights, shape `(width, F)`: one column for each atom feature."""
_DESCRIPTION = {"units", "features", "config", "domain", "data", "split", "figures", "notes"}
_MOST_MEMBERS = 1000

Content = tuple[dict[str, Any], dict[str, Tensor]]
"""Description and weights."""


class ModelFileError(ValueError):
    """A file is not a model file this version can read."""


def _from_1(header: dict[str, Any], tensors: dict[str, Tensor]) -> Content:
    """Version 1 held single models and did not give the number of members."""
    return {**header, "members": 1}, tensors


def _from_2(header: dict[str, Any], tensors: dict[str, Tensor]) -> Content:
    """Version 2 held ensembles only; since version 3 single models are of the same version."""
    return header, tensors


MIGRATIONS: dict[int, Callable[[dict[str, Any], dict[str, Tensor]], Content]] = {1: _from_1, 2: _from_2}
"""By version: what brings the content of a file of this version to the next."""


def migrate(header: dict[str, Any], tensors: dict[str, Tensor]) -> Content:
    """Description and weights of an earlier version as those of this version."""
    for version in range(header["format_version"], VERSION):
        header, tensors = MIGRATIONS[version](header, tensors)
        header = {**header, "format_version": version + 1}
    return header, tensors


def write(path: str | Path, description: Mapping[str, Any], members: int, tensors: Mapping[str, Tensor]) -> None:
    """Write a model file, whole or not at all.

    Args:
        path: the file.
        description: configuration, domain, data, split, figures and notes.
        members: number of models of an ensemble, 1 for a single model.
        tensors: weights by name.
    """
    from safetensors.torch import save_file

    header = {"format_version": VERSION, "members": members, "units": UNITS, "features": list(FEATURES), **description}
    state = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with replacing(path) as temporary:
        save_file(state, temporary, metadata={"espalike": json.dumps(header)})


def describe(path: str | Path) -> dict[str, Any]:
    """What a model file says of itself, as this version writes it, without reading weights or building anything.

    Raises:
        ModelFileError: when it is not a model file, or of a format this version does not read.
        FileNotFoundError: when there is no such file.
    """
    return migrate(_header(path), {})[0]


def _header(path: str | Path) -> dict[str, Any]:
    """The description as it is in the file, checked."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ModelFileError(
            f"{path} is not an espalike model file ({error}). Model files are safetensors; "
            "pickled checkpoints are never loaded."
        ) from error
    if "espalike" not in metadata:
        raise ModelFileError(f"{path} holds tensors but no espalike model description")
    try:
        header = json.loads(metadata["espalike"])
        version = header.get("format_version")
    except (json.JSONDecodeError, AttributeError) as error:
        raise ModelFileError(f"{path}: its model description is damaged ({error}); get the file again") from error
    if version not in (*MIGRATIONS, VERSION):
        raise ModelFileError(
            f"{path} has model format {version!r}; this version reads formats 1 to {VERSION}. "
            "Install the espalike version that wrote it, or train the model anew."
        )
    _check(path, header)
    return header


def _check(path: str | Path, header: dict[str, Any]) -> None:
    """Check a description as it is in the file.

    Raises:
        ModelFileError: where something is missing or damaged.
    """
    missing = sorted(_DESCRIPTION - set(header))
    if missing:
        raise ModelFileError(f"{path}: its model description lacks {', '.join(missing)}; get the file again")
    version, n = header["format_version"], header.get("members", 1)
    least, most = {1: (1, 1), 2: (2, _MOST_MEMBERS)}.get(version, (1, _MOST_MEMBERS))
    if not isinstance(n, int) or not least <= n <= most:
        raise ModelFileError(f"{path}: of format {version}, with {n!r} members; get the file again")
    unknown = [str(name) for name in header["features"] if name not in FEATURES]
    if unknown:
        raise ModelFileError(
            f"{path} was trained on atom features that this version does not compute: {', '.join(unknown)}. "
            "Install the espalike version that wrote it, or train the model anew."
        )


def read(path: str | Path) -> Content:
    """Description and weights of a model file, as this version writes them.

    Raises:
        ModelFileError, FileNotFoundError: see `describe`.
    """
    from safetensors.torch import load_file

    header, tensors = migrate(_header(path), load_file(path))
    columns = [FEATURES.index(name) for name in header["features"]]
    for name, weight in tensors.items():
        if name.endswith(INPUT_LAYER) and columns != list(range(len(FEATURES))):
            if weight.ndim != 2 or weight.shape[1] != len(columns):
                raise ModelFileError(f"{path}: weights do not fit the {len(columns)} atom features; get the file again")
            tensors[name] = weight.new_zeros(len(weight), len(FEATURES))
            tensors[name][:, columns] = weight
    return {**header, "features": list(FEATURES)}, tensors


def count_weights(path: str | Path) -> int:
    """Number of weights in a model file, from their shapes alone."""
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        return sum(prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118 - not a mapping


def shipped() -> dict[str, Path]:
    """Models that come with the package, by name."""
    folder = Path(str(files("espalike"))) / "models"
    return {path.stem: path for path in sorted(folder.glob("*.espalike"))}


def find(name: str | Path) -> Path:
    """Path of a shipped model's name or of a model file.

    Raises:
        FileNotFoundError: listing the shipped models.
    """
    path = shipped().get(str(name), Path(name))
    if not path.is_file():
        raise FileNotFoundError(f"no model {str(name)!r}: give a file or one of {', '.join(shipped()) or '(none)'}")
    return path
