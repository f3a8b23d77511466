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
    """Write a template, with a hash of its name and text; a warning if that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, f"<!-- {_hash(path, text)} -->\n{text}")
    except OSError as error:
        _LOG.warning("%s: the template is not kept in the cache (%s)", path, error.strerror or error)


def read(path: Path) -> str | None:
    """A template; None if there is none, or if it is damaged or cannot be read, with a warning.

    Raises:
        ValueError: when the file is whole, but has a script or a tag that is not espalike's.
    """
    try:
        first, _, text = path.read_text(encoding="utf-8", errors="replace").partition("\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        _LOG.warning("%s cannot be read (%s); the template is made again", path, error.strerror or error)
        return None
    root = _parsed(text) if first == f"<!-- {_hash(path, text)} -->" else None
    if root is None:
        _LOG.warning("%s is damaged or was changed; it is made again", path)
        return None
    odd = [node.tag for node in root if node.tag not in _TAGS]
    odd += ["Script" for node in root.findall("Script") if not is_ours(node.text or "")]
    if odd:
        raise ValueError(f"{path}: its <{odd[0]}> is not espalike's, and OpenMM would run it; remove the file")
    return text


def _parsed(text: str) -> ET.Element | None:
    try:
        return ET.fromstring(text)
    except ET.ParseError:
        return None


def _hash(path: Path, text: str) -> str:
    """Hash of a template and the name of its file, which says the model and the molecule."""
    return f"sha256 {hashlib.sha256(f'{path.name} {text}'.encode()).hexdigest()}"


def is_ours(script: str) -> bool:
    """Whether a script is one that espalike writes: the fixed part, a table of plain values, and the call."""
    from espalike.export import ffxml_script

    fixed, text = inspect.getsource(ffxml_script).rstrip(), script.strip()
    if not text.startswith(fixed):
        return False
    try:
        table, call = ast.parse(text[len(fixed) :]).body
        if not isinstance(table, ast.Assign):
            return False
        ast.literal_eval(table.value)
    except (SyntaxError, ValueError):
        return False
    (name,) = table.targets
    expected = "espalike_apply(sys, data, self, espalike_table)"
    return ast.unparse(name) == "espalike_table" and ast.unparse(call) == expected
