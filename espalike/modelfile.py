"""Model files: safetensors with a JSON description, which is data and never code.

Everything in a file is checked before a network is built, so that the cost of a damaged file is bounded by its size.
A file of an earlier version is migrated when it is read, by one function per version. Input columns of the network
are found by the names of the atom features, so a model is still read when this version computes more features.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Mapping
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any

from torch import Tensor

from espalike.chem.sanitize import shorten
from espalike.features import FEATURES
from espalike.files import replacing

VERSION = 5
"""Version of the layout that is written. A change that an older reader would misread raises it."""
DEFAULT = "espalike-1"
"""Name of the shipped model that is used by default."""
SUPERSEDED = {"espalike-small": "espalike-1", "espalike-class2": "espalike-2"}
"""Shipped models that will leave with the next version, and their successors."""
UNITS = {"length": "angstrom", "energy": "kcal/mol", "charge": "e", "angle": "radian"}
INPUT_LAYER = "encoder.enter.weight"
"""End of the name of a network's first weights, shape `(width, F)`: one column for each atom feature."""
LISTS = ("split", "surroundings")
"""Parts of a description that are long lists: they are compressed in a file."""
_HIGHEST_RATIO = 100
"""Lists that are more than this many times as long as their compressed text are damaged."""
_MOST_MEMBERS = 1000
_LARGEST_WEIGHT = 1e6
"""Larger weights are of no trained network: the largest of the shipped models is below 100."""
_DTYPES = ("F32", "F64")
_SHIFT = ".shift."
"""Part of the names of weights of level shifts, which can be in half precision, too: shipped models are smaller so."""

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


def _from_3(header: dict[str, Any], tensors: dict[str, Tensor]) -> Content:
    """Version 3 did not compress long lists; `_header` reads both."""
    return header, tensors


def _from_4(header: dict[str, Any], tensors: dict[str, Tensor]) -> Content:
    """Version 4 had no weights in half precision; `load` makes weights of each precision those of the model."""
    return header, tensors


MIGRATIONS: dict[int, Callable[[dict[str, Any], dict[str, Tensor]], Content]] = {
    1: _from_1,
    2: _from_2,
    3: _from_3,
    4: _from_4,
}
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
        description: configuration, domain, surroundings where they were counted, data, split, figures and notes.
        members: number of models of an ensemble, 1 for a single model.
        tensors: weights by name.
    """
    from safetensors.torch import save

    header = {"format_version": VERSION, "members": members, "units": UNITS, "features": list(FEATURES), **description}
    state = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    header["sha256"] = _digest(header, state)
    lists = {name: header.pop(name) for name in LISTS if name in header}
    with replacing(path) as temporary:
        # save_file would make a file that only its owner may read
        temporary.write_bytes(_ordered(save(state, metadata={"espalike": json.dumps(header), "lists": _packed(lists)})))


def _ordered(content: bytes) -> bytes:
    """A safetensors file with its metadata in the order of their names; safetensors writes them in a random order."""
    stop = 8 + int.from_bytes(content[:8], "little")
    head = json.loads(content[8:stop])
    head["__metadata__"] = dict(sorted(head["__metadata__"].items()))
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[stop:]


def _packed(lists: dict[str, Any]) -> str:
    """Long lists as they are in a file: JSON, compressed (zlib), as Base64."""
    return base64.b64encode(zlib.compress(json.dumps(lists).encode(), 9)).decode()


def _unpacked(text: str) -> dict[str, Any]:
    """What `_packed` was given.

    Raises:
        ValueError: where the text is damaged.
    """
    data = base64.b64decode(text, validate=True)
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(data, _HIGHEST_RATIO * len(data))
    except zlib.error as error:
        raise ValueError(f"lists cannot be decompressed: {error}") from error
    if not stream.eof or stream.unused_data:
        raise ValueError("lists are cut or too long")
    lists = json.loads(content)
    if not isinstance(lists, dict) or not set(lists) <= set(LISTS):
        raise ValueError(f"expected lists for {' and '.join(LISTS)}")
    return lists


def describe(path: str | Path) -> dict[str, Any]:
    """The description in a model file, as this version writes it; no weights are read, and nothing is built.

    Raises:
        ModelFileError: when it is not a model file, or of a format this version does not read.
        FileNotFoundError: when there is no such file.
    """
    header, _ = migrate(_header(path), {})
    return {name: part for name, part in header.items() if name != "sha256"}


def _header(path: str | Path) -> dict[str, Any]:
    """The description as it is in the file, checked."""
    from safetensors import SafetensorError, safe_open

    with open(path, "rb"):  # safetensors says of each file that cannot be read that there is none
        pass
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            dtypes = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - not a mapping
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
        header |= _unpacked(metadata["lists"]) if "lists" in metadata else {}
    except (ValueError, AttributeError, RecursionError) as error:
        raise ModelFileError(f"{path}: its model description is damaged ({error}); get the file again") from error
    if type(version) is not int or version not in (*MIGRATIONS, VERSION):
        raise ModelFileError(
            f"{path} has model format {version!r}; this version reads formats 1 to {VERSION}. "
            "Install the espalike version that wrote it, or train the model anew."
        )
    _check(path, header)
    for name, dtype in dtypes.items():
        if dtype not in (*_DTYPES, *(["F16"] if _SHIFT in name else [])):
            raise ModelFileError(
                f"{path}: its tensor {name} is of type {dtype}; expected {' or '.join(_DTYPES)}; get the file again"
            )
    return header


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)


def _is_domain(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and {"elements", "environments", "charges"} <= set(value) <= {"elements", "environments", "charges"}
        and _is_list(value["elements"], int)
        and all(1 <= number <= _LARGEST_ELEMENT for number in value["elements"])
        and _is_list(value["environments"], str)
        and _is_list(value["charges"], int)
        and len(value["charges"]) == 2
        and value["charges"][0] <= value["charges"][1]
        and bool(value["elements"] or not value["environments"])
    )


_LARGEST_ELEMENT = 118
_DESCRIPTION: dict[str, tuple[Callable[[Any], bool], str]] = {
    "units": (lambda value: value == UNITS, json.dumps(UNITS)),
    "features": (lambda value: _is_list(value, str) and len(set(value)) == len(value), "a list of different names"),
    "config": (
        lambda value: isinstance(value, dict) and isinstance(value.get("terms"), list),
        "a table of settings with a list of terms",
    ),
    "domain": (_is_domain, "lists of elements, of their environments, and of smallest and largest net charge"),
    "data": (lambda value: _is_list(value, dict), "a list of tables"),
    "split": (
        lambda value: isinstance(value, dict) and all(_is_list(keys, str) for keys in value.values()),
        "lists of keys",
    ),
    "figures": (lambda value: isinstance(value, dict), "a table"),
    "notes": (lambda value: isinstance(value, dict), "a table"),
}
"""By part of a description: whether a value can be one, and what is expected."""


def _is_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(type(n) is int and n > 0 for n in value.values())


_OPTIONAL: dict[str, tuple[Callable[[Any], bool], str]] = {
    "surroundings": (_is_counts, "numbers of training molecules"),
}
"""The same for parts that a description may lack."""


def _check(path: str | Path, header: dict[str, Any]) -> None:
    """Check a description as it is in the file.

    Raises:
        ModelFileError: where something is missing or damaged.
    """
    missing = sorted(set(_DESCRIPTION) - set(header))
    if missing:
        raise ModelFileError(f"{path}: its model description lacks {', '.join(missing)}; get the file again")
    for name, (fits, expected) in (_DESCRIPTION | _OPTIONAL).items():
        if name in header and not fits(header[name]):
            given = shorten(json.dumps(header[name]))
            raise ModelFileError(
                f"{path}: {name} in its description: expected {expected}; got {given}; get the file again"
            )
    version = header["format_version"]
    n = header.get("members", 1 if version == 1 else None)
    least, most = {1: (1, 1), 2: (2, _MOST_MEMBERS)}.get(version, (1, _MOST_MEMBERS))
    if type(n) is not int or not least <= n <= most:
        raise ModelFileError(f"{path}: of format {version}, with {n!r} members; get the file again")
    unknown = [name for name in header["features"] if name not in FEATURES]
    if unknown:
        raise ModelFileError(
            f"{path} was trained on atom features that this version does not compute: {', '.join(unknown)}. "
            "Install the espalike version that wrote it, or train the model anew."
        )


def _digest(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of a description, without this hash itself, and of the weights with their names, types and shapes."""
    rest = {name: value for name, value in json.loads(json.dumps(header)).items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def read(path: str | Path) -> Content:
    """Description and weights of a model file, as this version writes them.

    Raises:
        ModelFileError, FileNotFoundError: see `describe`.
    """
    from safetensors.torch import load_file

    header, tensors = _header(path), load_file(path)
    for name, weight in tensors.items():
        if not (weight.abs() < _LARGEST_WEIGHT).all():  # nor is it where a value is not a number
            raise ModelFileError(
                f"{path}: its tensor {name} holds values that are not finite or beyond {_LARGEST_WEIGHT:g}; "
                "get the file again"
            )
    if header["format_version"] == VERSION and "sha256" not in header:
        raise ModelFileError(f"{path}: its model description lacks sha256, the hash of its content; get the file again")
    if "sha256" in header and header["sha256"] != _digest(header, tensors):
        raise ModelFileError(f"{path}: its content is not what was written (SHA-256 differs); get the file again")
    header, tensors = migrate(header, tensors)
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


def find(name: str | os.PathLike) -> Path:
    """Path of a shipped model's name or of a model file.

    Raises:
        FileNotFoundError: listing the shipped models; for the folder of a training, naming the model file in it.
        TypeError: for what is neither a name nor a path.
    """
    if not isinstance(name, str | os.PathLike):
        raise TypeError(f"model: expected a name or a model file, got {type(name).__name__}")
    path = shipped().get(str(name), Path(name))
    if os.path.isfile(inside := path / "model.espalike"):
        raise FileNotFoundError(f"{name} is a folder: give the model file in it, {inside}")
    if not os.path.isfile(path):  # no error for a name that is too long for a path
        raise FileNotFoundError(f"no model {str(name)!r}: give a file or one of {', '.join(shipped()) or '(none)'}")
    return path
