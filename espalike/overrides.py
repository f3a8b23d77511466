"""Settings as overrides in hydra's syntax."""

from __future__ import annotations

import numbers
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def at_home(value: str) -> str:
    """The value of an override with the user's folder for `~`, which few shells write there themselves.

    Examples:
        >>> at_home("~/store") == str(Path.home() / "store")
        True
    """
    return re.sub(r"(?:^|(?<=[\[,'\"]))~(?=/)", lambda _: str(Path.home()), value)


def override(key: str, value: Any) -> str:
    """One setting as an override in hydra's syntax, its texts quoted.

    Raises:
        ValueError: for a value that is not a number, text, path, truth value, None, list or mapping.

    Examples:
        >>> override("data.stores", ["store/mine", "sample"])
        'data.stores=["store/mine","sample"]'
    """
    return f"{key}={_text(key, value)}"


def overrides_of(settings: Mapping[str, Any]) -> list[str]:
    """Keyword arguments as overrides; `trainer={"max_epochs": 5}` is `trainer.max_epochs=5`.

    Raises:
        ValueError: see `override`.
    """
    result = []
    for key, value in settings.items():
        if isinstance(value, Mapping) and "." not in key:
            result += [override(f"{key}.{name}", inner) for name, inner in value.items()]
        else:
            result.append(override(key, value))
    return result


def quoted(argument: str) -> str | None:
    """A `key=value` whose value hydra reads as the text, or list of texts, that was typed; quoted for a shell.

    None if there is none, as for a mapping.

    Examples:
        >>> quoted("input=CC(=O)O")
        '\\'input="CC(=O)O"\\''
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, _, value = argument.partition("=")
    if value.startswith(("{", "[{")):
        return None
    parts = _parts(value)
    typed = value if parts is None else parts
    works = override(key, typed)
    try:
        (parsed,) = OverridesParser.create().parse_overrides([works])
    except HydraException:
        return None
    return shlex.quote(works) if parsed.value() == typed else None


def _parts(value: str) -> list[str] | None:
    """The elements of `[a,b]`, without their quotes; None for anything else, also for `[O-]C=[NH2+]`."""
    elements, depth = [""], 0
    for position, letter in enumerate(value):
        depth += (letter in "([") - (letter in ")]")
        if depth < 1 and position < len(value) - 1:
            return None
        if letter == "," and depth == 1:
            elements.append("")
        else:
            elements[-1] += letter
    if not (value.startswith("[") and value.endswith("]")):
        return None
    elements[0], elements[-1] = elements[0][1:], elements[-1][:-1]
    return [re.sub(r"^(['\"])(.*)\1$", r"\2", element.strip()) for element in elements]


def _text(key: str, value: Any) -> str:
    """A value in hydra's syntax."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):
        return repr(float(value))
    if isinstance(value, str | os.PathLike):
        # a backslash is itself, except before a quote
        return (
            '"' + re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), at_home(os.fspath(value))) + '"'
        )
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{_text(key, inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, Iterable):
        return "[" + ",".join(_text(key, inner) for inner in value) + "]"
    saved = "; save it, and give the file" if hasattr(value, "save") else ""
    raise ValueError(
        f"{key}: expected a number, text, path, true or false, None, list or dict; got {type(value).__name__}{saved}"
    )
