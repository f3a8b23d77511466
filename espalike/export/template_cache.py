"""Files of a template generator's cache: hashed, and run only if their script is the one that espalike writes."""

from __future__ import annotations

import ast
import hashlib
import inspect
import logging
import xml.etree.ElementTree as ET
from pathlib import Path

from espalike import files

_LOG = logging.getLogger(__name__)
_TAGS = {
    "Info", "AtomTypes", "Residues", "HarmonicBondForce", "HarmonicAngleForce", "PeriodicTorsionForce",
    "NonbondedForce", "Script",
}  # fmt: skip
"""Tags that files of espalike have; OpenMM has others that run code or read files."""


def write(path: Path, text: str) -> None:
    """Write a template, with a hash of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, f"<!-- {_hash(text)} -->\n{text}")


def read(path: Path) -> str | None:
    """A template; None if there is none, or if it is damaged, with a warning.

    Raises:
        ValueError: when the file is whole, but has a script or a tag that is not espalike's.
    """
    if not path.is_file():
        return None
    first, _, text = path.read_text(encoding="utf-8", errors="replace").partition("\n")
    if first != f"<!-- {_hash(text)} -->":
        _LOG.warning("%s is damaged or was changed; it is made again", path)
        return None
    root = ET.fromstring(text)
    odd = [node.tag for node in root if node.tag not in _TAGS]
    odd += ["Script" for node in root.findall("Script") if not is_ours(node.text or "")]
    if odd:
        raise ValueError(f"{path}: its <{odd[0]}> is not espalike's, and OpenMM would run it; remove the file")
    return text


def _hash(text: str) -> str:
    return f"sha256 {hashlib.sha256(text.encode()).hexdigest()}"


def is_ours(script: str) -> bool:
    """Whether a script is one that espalike writes: the fixed part, a table of plain values, and the call."""
    from espalike.export import ffxml_script

    fixed, text = inspect.getsource(ffxml_script).rstrip(), script.strip()
    if not text.startswith(fixed):
        return False
    try:
        table, call = ast.parse(text[len(fixed) :]).body
        assert isinstance(table, ast.Assign)
        ast.literal_eval(table.value)
    except (SyntaxError, ValueError, AssertionError):
        return False
    (name,) = table.targets
    expected = "espalike_apply(sys, data, self, espalike_table)"
    return ast.unparse(name) == "espalike_table" and ast.unparse(call) == expected
