"""Changes of real inputs: of their bytes, lines and words, and of the values of nested data and of arrays."""

import copy
import re
from typing import Any

import numpy as np
from hypothesis import strategies as st

WORDS = [
    "nan", "-inf", "1e999", "1e30", "-1", "0", "0.5", "1", "2", "999", "999999999999", "1e9", "1_0", "١٢", "1,5",
    "0x10", "True", "null", "C", "H", "Xx", "X" * 300, "../../escaped", "/etc/passwd", "${oc.env:HOME}",
    "\x1b[31mred", "\u202eabc", "a\x07b", "é", "]]>", '"""', "$$$$", "M  END", "@<TRIPOS>MOLECULE", "END", "<x",
    "&amp;&lol;", "{", "[" * 50, "=",
]  # fmt: skip
"""Words that take the place of others."""
VALUES: list[Any] = [
    None, True, -1, 0, 2, 10**9, 10**30, 0.5, 1e308, float("inf"), float("nan"), "", "x", "1", "../../escaped",
    "a\x07b", [], [10**9], {}, {"x": 1},
]  # fmt: skip
"""Values that take the place of others in nested data."""
_WORD = re.compile(r"\S+")


def changed_bytes(data: st.DataObject, content: bytes) -> bytes:
    """Bytes with one to three changes: flipped bits, a cut, a piece that is missing, doubled or zero."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        if not changed:
            break
        at, size = data.draw(st.integers(0, len(changed) - 1)), data.draw(st.integers(1, 64))
        kind = data.draw(st.sampled_from(["bit", "bit", "byte", "cut", "missing", "double", "zero", "insert"]))
        if kind == "bit":
            changed[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "byte":
            changed[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del changed[at:]
        elif kind == "missing":
            del changed[at : at + size]
        elif kind == "double":
            changed[at:at] = changed[at : at + size]
        elif kind == "zero":
            changed[at : at + size] = bytes(len(changed[at : at + size]))
        else:
            changed[at:at] = data.draw(st.binary(max_size=8))
    return bytes(changed)


def changed_text(data: st.DataObject, content: bytes) -> bytes:
    """A text with one to three changes of lines and words, or of its encoding; sometimes `changed_bytes`."""
    if data.draw(st.integers(0, 4)) == 0:
        return changed_bytes(data, content)
    lines = content.decode().split("\n")
    for _ in range(data.draw(st.integers(1, 3))):
        at, other = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        kind = data.draw(
            st.sampled_from(["word", "word", "word", "swap words", "without", "double", "swap", "cut", "end"])
        )
        words = list(_WORD.finditer(lines[at]))
        if kind == "word" and words:
            word = data.draw(st.sampled_from(words))
            new = data.draw(st.sampled_from(WORDS))
            if data.draw(st.booleans()):  # columns stay where they are
                new = new[: len(word[0])].rjust(len(word[0]))
            lines[at] = lines[at][: word.start()] + new + lines[at][word.end() :]
        elif kind == "swap words" and len(words) > 1:
            first, second = data.draw(st.integers(0, len(words) - 2)), len(words) - 1
            texts = [word[0] for word in words]
            texts[first], texts[second] = texts[second], texts[first]
            lines[at] = " ".join(texts)
        elif kind == "without" and len(lines) > 1:
            del lines[at]
        elif kind == "double":
            lines.insert(other, lines[at])
        elif kind == "swap":
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == "cut" and len(lines) > 1:
            del lines[at:]
        elif kind == "end":
            lines[at] += data.draw(st.sampled_from(["\r", " ", "\t1", "\x00", "\x0c", "\x85", "\u2028", "#"]))
        if not lines:
            break
    encoding = data.draw(st.sampled_from(["utf-8"] * 8 + ["utf-16", "latin-1", "utf-8-sig"]))
    return "\n".join(lines).encode(encoding, errors="replace")


def places(value: Any, path: tuple = ()):
    """Paths to every value of nested lists and dicts."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def changed(value: Any, path: tuple, new: Any) -> Any:
    """Nested data with another value at a path."""
    if not path:
        return new
    value = copy.copy(value)
    value[path[0]] = changed(value[path[0]], path[1:], new)
    return value


def changed_values(data: st.DataObject, value: Any, others: list | None = None) -> Any:
    """Nested data with one other value, sometimes nested deeply."""
    where = data.draw(st.sampled_from(sorted(places(value), key=repr)))
    new = data.draw(st.sampled_from(others or VALUES))
    if data.draw(st.integers(0, 20)) == 0:
        for _ in range(300):
            new = [new]
    return changed(value, where, new)


def changed_array(data: st.DataObject, array: np.ndarray) -> Any:
    """An array of other numbers, another type or another shape."""
    kinds = {
        "int8": lambda a: a.astype(np.int8),
        "bool": lambda a: a.astype(bool),
        "complex": lambda a: a.astype(np.complex64),
        "half": lambda a: a.astype(np.float16),
        "text": lambda a: a.astype("S8"),
        "unsigned": lambda a: a.astype(np.uint64),
        "fraction": lambda a: a + 0.4,
        "nan": lambda a: _with(a, np.nan),
        "infinite": lambda a: _with(a, np.inf),
        "huge": lambda a: _with(a, 1e300),
        "all nan": lambda a: a * np.nan,
        "negative": lambda a: -a,
        "zero": lambda a: a * 0,
        "flat": np.ravel,
        "longer": lambda a: np.concatenate([a, a]) if a.ndim else np.array([a, a]),
        "shorter": lambda a: a[:-1] if a.ndim else a,
        "empty": lambda a: a[:0] if a.ndim else a,
        "transposed": np.transpose,
        "nested": lambda a: a[None],
    }
    if array.dtype.kind not in "iufb":
        return data.draw(
            st.sampled_from([array.astype(object)[()] if array.ndim == 0 else array[:0], 5, "x", "\x07", ""])
        )
    with np.errstate(all="ignore"):
        return kinds[data.draw(st.sampled_from(sorted(kinds)))](array)


def _with(array: np.ndarray, value: float) -> np.ndarray:
    """The array with its first number replaced."""
    array = np.array(array, dtype=np.float64)
    array[(0,) * array.ndim] = value
    return array
