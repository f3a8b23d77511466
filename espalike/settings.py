"""Settings of the jobs: `configs/NAME.yaml` composed with overrides; errors name the argument and what would work."""

from __future__ import annotations

import difflib
import importlib
import json
import numbers
import os
import re
import shlex
import types
import typing
from collections import abc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONFIGS = "espalike.configs"
_KEYS_LISTED = 6


def compose(job: str, overrides: Sequence[str] = (), config_dir: str | os.PathLike | None = None) -> dict[str, Any]:
    """The settings of a job as plain data, as the command composes them.

    Args:
        job: name of the job (`train`, `evaluate`, …).
        overrides: overrides in hydra's syntax, e.g. `trainer.max_epochs=5`.
        config_dir: folder of more YAML files; where names are equal, the program's are used.

    Raises:
        ValueError: for an override that cannot be read, or an unknown setting or choice, listing the known ones.

    Examples:
        >>> compose("train", ["experiment=quickstart", "trainer.max_epochs=5"])["trainer"]["max_epochs"]
        5
        >>> compose("train", ["model=tinny"])
        Traceback (most recent call last):
            ...
        ValueError: model=tinny: did you mean 'tiny'? choices of model: small, tiny
    """
    from hydra import compose as hydra_compose
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    with _configs(config_dir) as search:
        try:
            cfg = hydra_compose(job, [*search, *overrides])
        except HydraException as error:
            raise ValueError(explain(error, job, overrides, config_dir)) from error
    check_complete(job, cfg)
    settings = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def check_complete(job: str, cfg: DictConfig) -> None:
    """Check that the job's own settings without a default are given; what a group lacks is for the job to check.

    Raises:
        ValueError: listing those that are not given; or naming one that is of another type than its class takes.
    """
    from omegaconf import OmegaConf

    out = None if OmegaConf.is_missing(cfg, "out") else cfg.get("out")
    if not isinstance(out, str | None):
        raise ValueError(f"out={out}: expected the name of a folder; a name that looks like a number is quoted twice")
    _check_like("", OmegaConf.to_container(cfg, resolve=False), OmegaConf.to_container(_defaults(job)))
    _check_types("", OmegaConf.to_container(cfg, resolve=False))
    if missing := sorted(key for key in OmegaConf.missing_keys(cfg) if "." not in key):
        raise ValueError(f"{job} needs {' and '.join(f'{key}=…' for key in missing)}")


def _defaults(job: str) -> Any:
    """The job's own YAML file, without its groups."""
    from omegaconf import OmegaConf

    return OmegaConf.create(files(CONFIGS).joinpath(f"{job}.yaml").read_text(encoding="utf-8"))


def _check_like(key: str, node: Any, default: Any) -> None:
    """Check that settings are numbers, truth values, lists and mappings where their defaults are."""
    if isinstance(default, Mapping) and isinstance(node, Mapping) and "_target_" not in default:
        for name in default.keys() & node.keys():
            _check_like(f"{key}.{name}".lstrip("."), node[name], default[name])
        return
    if node is None or default is None or (isinstance(node, str) and ("${" in node or node == "???")):
        return
    for kinds, expected in (
        (bool, "true or false"),
        ((int, float), "a number"),
        (list, "a list"),
        (Mapping, "a mapping"),
    ):
        if isinstance(default, kinds):
            other = kinds is list and isinstance(node, str | Mapping)  # a list of one
            other |= kinds is bool and isinstance(node, str)  # resume=auto
            odd = isinstance(node, bool) and kinds is not bool
            if odd or not (other or isinstance(node, kinds)):
                raise ValueError(f"{key}={node}: expected {expected}")
            return


def _check_types(key: str, node: Any) -> None:
    """Check the settings of every `_target_` below a node against the types that the class declares."""
    if isinstance(node, Mapping):
        hints = _hints(str(node["_target_"])) if "_target_" in node else {}
        for name, value in node.items():
            allowed = _accepted(hints.get(name, Any))
            unresolved = value is None or (isinstance(value, str) and (value == "???" or "${" in value))
            odd = isinstance(value, bool | str) and type(value) not in (allowed or ())  # a kind of number, of list
            if allowed and not unresolved and (odd or not isinstance(value, allowed)):
                kinds = " or ".join(sorted({_KINDS.get(kind, kind.__name__) for kind in allowed} - {"null"}))
                raise ValueError(
                    f"{key}{name}={value}: expected {kinds}; a text that looks like a number is quoted twice"
                )
            _check_types(f"{key}{name}.", value)


_KINDS = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false", types.NoneType: "null",
    abc.Mapping: "a mapping", abc.Sequence: "a list", list: "a list", dict: "a mapping", tuple: "a list",
}  # fmt: skip


def _hints(target: str) -> dict[str, Any]:
    """Types of the arguments of a class or function; none where it cannot be imported or says none."""
    module, _, name = target.rpartition(".")
    try:
        made = getattr(importlib.import_module(module), name)
        return typing.get_type_hints(made.__init__ if isinstance(made, type) else made)  # type: ignore[misc]
    except Exception:  # what is wrong with the class is reported where it is made
        return {}


def _accepted(hint: Any) -> tuple[type, ...] | None:
    """The types of a type hint whose values a setting can have; None for any."""
    parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    kinds = [typing.get_origin(part) or part for part in parts]
    if any(kind not in _KINDS and kind is not Path for kind in kinds):
        return None
    listed = {kind: (kind, *more) for kind, more in ((float, (int,)), (Path, (str,)), (tuple, (list,)))}
    return tuple(dict.fromkeys(each for kind in kinds for each in listed.get(kind, (kind,)) if each is not Path))


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


def chosen(overrides: Sequence[str]) -> list[str]:
    """Dotted paths of the settings that overrides choose."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [override.package or override.key_or_group for override in parsed]


def explain(
    error: BaseException, job: str, overrides: Sequence[str], config_dir: str | os.PathLike | None = None
) -> str:
    """What a user can do about an error of hydra: the argument, the quoting, the choices or the nearest settings.

    Args:
        error: what hydra raised while it composed the settings.
        job: name of the job, or of the user's configuration that replaces its YAML file.
        overrides: the overrides as typed.
        config_dir: see `compose`.
    """
    from hydra.errors import MissingConfigException, OverrideParseException

    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    text = str(error)
    if ambiguous := re.match(r"Ambiguous value for argument '(.*)'", text):
        return f"{_unreadable(ambiguous[1])}; for one run per value: --multirun"
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        values = {_key(o): re.split(r"\W*,\W*", o.partition("=")[2].strip("\"'")) for o in overrides}
        key = next((k for k in values if k.partition("@")[0] == group and choice in values[k]), group)
        more = "; others come with: pip install 'espalike[sweep]'" if group.startswith("hydra/") else ""
        return f"{key}={choice}: {suggest(choice, error.options)}choices of {group}: {', '.join(error.options)}{more}"
    if twice := re.match(r"Multiple values for (\S+)\.", text):
        return f"{twice[1]} is chosen twice, or with a + before it; write {twice[1]}=NAME once, without +"
    if unknown := re.match(r"Could not override '([^']*)'", text):
        inner = getattr(error.__cause__, "full_key", None) or ""  # `a={b:1}` where a has no b
        return _unknown_setting(max(unknown[1], inner, key=len), job, overrides, config_dir)
    if "override must be" in text:  # hydra names the value's type only
        return f"{' '.join(text.split())}; among {' '.join(overrides)}"
    cause = f" ({str(error.__cause__).splitlines()[0]})" if error.__cause__ else ""
    return " ".join(text.partition("\nConfig search path")[0].split()) + cause


def suggest(name: str, known: Iterable[str]) -> str:
    """`did you mean …? ` with the nearest known name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}? " if close else ""


@cache
def made(settings: str) -> tuple[Any, ...]:
    """The objects that settings describe, in the order of their names; a process makes them once.

    Args:
        settings: JSON of objects' settings by name, each with the class as `_target_`.
    """
    from hydra.utils import instantiate

    return tuple(instantiate(json.loads(settings), _convert_="all").values())


@contextmanager
def _configs(config_dir: str | os.PathLike | None) -> Iterator[list[str]]:
    """Hydra with the program's YAML files; yields overrides that add those of a folder."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    folder = None if config_dir is None else Path(config_dir).absolute()
    if folder and not folder.is_dir():
        raise ValueError(f"config_dir={config_dir}: no such folder")
    state = GlobalHydra.instance()
    before, state.hydra = state.hydra, None  # the caller may be a program that uses hydra
    try:
        hydra.initialize_config_module(CONFIGS, version_base="1.3")
        yield [override("hydra.searchpath", [f"file://{folder}"])] if folder else []
    finally:
        state.hydra = before


def _key(argument: str) -> str:
    return argument.lstrip("+~").partition("=")[0]


def _unreadable(argument: str) -> str:
    """What is wrong with an argument that hydra cannot read, with the quoting that works."""
    if "=" not in argument:
        return f"argument {argument!r}: expected key=value"
    works = quoted(argument)
    advice = f"; in a shell, write {works}" if works else ""
    return f"argument {argument!r}: a value with spaces, commas, brackets or = must be quoted{advice}"


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
        return '"' + re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), os.fspath(value)) + '"'
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{_text(key, inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, Iterable):
        return "[" + ",".join(_text(key, inner) for inner in value) + "]"
    raise ValueError(f"{key}: expected a number, text, path, true or false, None, list or dict; got {value!r}")


def _unknown_setting(key: str, job: str, overrides: Sequence[str], config_dir: str | os.PathLike | None) -> str:
    """The settings that are nearest to one that does not exist, in the settings that the chosen groups have."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    with _configs(config_dir) as search:
        groups = GlobalHydra.instance().config_loader().list_groups("")
        choices = [o for o in overrides if _key(o).partition("@")[0] in groups and _key(o) != key]
        for some in (choices, []):  # the choices may have faults, too
            try:
                cfg = hydra.compose(job, [*search, *some], return_hydra_config=True)
                break
            except HydraException:
                continue
        else:  # a configuration of the user's own, with --config-name
            return f"{key}: no such setting"
    in_defaults = sorted(name for name in cfg.hydra.runtime.choices if not name.startswith("hydra/"))
    group = key.partition("@")[0]
    if group in groups:
        return (
            f"{key}: {job} has no default of the group {group!r} there; groups: {', '.join(in_defaults)}. "
            f"+{group}@SETTING=NAME adds one under SETTING"
        )
    known = [*dict.fromkeys([*(name for name in _dotted(cfg) if name.split(".")[0] != "hydra"), *in_defaults])]
    parent, _, last = key.rpartition(".")
    near = [name for name in known if name.rpartition(".")[2] == last]
    near += difflib.get_close_matches(key, known, n=_KEYS_LISTED, cutoff=0.7)
    near += [name for name in known if parent and name.rpartition(".")[0] == parent]
    listed = list(dict.fromkeys(near))[:_KEYS_LISTED] or sorted(name for name in known if "." not in name)
    add = f"; +{key}=VALUE adds it nevertheless" if parent in known else ""
    return (
        f"{key}: {job} has no such setting; nearest: {', '.join(listed)} "
        f"(`espalike {job} --cfg job` prints every setting{add})"
    )


def _dotted(node: DictConfig, lead: str = "") -> Iterator[str]:
    """Dotted names of all settings, groups of settings included."""
    from omegaconf import DictConfig, OmegaConf

    for key in map(str, node):
        yield lead + key
        child = None if OmegaConf.is_interpolation(node, key) or OmegaConf.is_missing(node, key) else node[key]
        if isinstance(child, DictConfig):
            yield from _dotted(child, f"{lead}{key}.")
