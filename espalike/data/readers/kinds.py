"""Kinds of files: those of other programs that no reader reads and how to convert them, and readers by suffix."""

from __future__ import annotations

from pathlib import Path

_BYTES = 4096
_READERS = {
    ".xyz": "extxyz", ".extxyz": "extxyz", ".sdf": "sdf", ".sd": "sdf", ".json": "qcarchive", ".parquet": "table",
    ".arrow": "table", ".feather": "table", ".npz": "rmd17, grappa or arrays",
}  # fmt: skip


def of_another_program(path: Path) -> str:
    """What a file is and how to convert it, where no reader reads files of its kind; empty for all others."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        start = file.read(_BYTES)
    is_database = start.startswith(b"SQLite format 3\0") and b"number_key_values" in start
    if is_database or b"ASE-Trajectory" in start[:32] or (b'"ctime"' in start and b'"__ndarray__"' in start):
        return (
            'a file of ASE; write it as extended XYZ, ase.io.write("data.xyz", ase.io.read("'
            f'{path.name}", ":"), format="extxyz"), for reader=extxyz'
        )
    if start[16:20] == b"\xde\xc0\xef\xbe":
        return "an LMDB; write it as extended XYZ (reader=extxyz), HDF5 or .npz (reader=arrays)"
    if (start[:1] == b"\x80" and path.suffix.startswith(".p")) or (start[:2] == b"PK" and b"data.pkl" in start[:128]):
        return "a pickle, which can run code and is not read; write it as HDF5 or .npz (reader=arrays)"
    if path.suffix.lower() in (".csv", ".tsv"):
        return "a table of text; write it as parquet, with lists of numbers (reader=table)"
    return ""


def which_reader(path: Path) -> str:
    """How to read a file that was given without a reader, or what it must be converted to."""
    if other := of_another_program(path):
        return other
    likely = _READERS.get(path.suffix.lower())
    return f"for the layout of another file: reader={likely or 'NAME'}"
