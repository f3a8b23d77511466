"""Settings of the jobs: `configs/NAME.yaml` composed with overrides; errors name the argument and what would work."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalike.overrides import at_home as at_home
from espalike.overrides import override as override
from espalike.overrides import overrides_of as overrides_of
from espalike.overrides import quoted as quoted
from espalike.setting_types import check_declared, check_like, check_types

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from omegaconf import DictConfig

CONFIGS = "espalike.configs"
_KEYS_LISTED = 6
_ELSEWHERE = {
    "hydra": "; others come with: pip install 'espalike[sweep]'",
    "model": "; a model to start from is start=MODEL",
    "data": "; stores are data.stores=[PATH,...]",
}
"""What is added where a choice of a group does not exist."""


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
        >>> compose("train", ["conv=sge"])
        Traceback (most recent call last):
            ...
        ValueError: conv=sge: did you mean 'sage'? choices of conv: dgl_gat, dgl_gin, dgl_sage, gat, gin, sage
    """
    from hydra import compose as hydra_compose
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    with _configs(config_dir) as search:
        try:
            cfg = hydra_compose(job, [*search, *overrides])
        except HydraException as error:
            raise ValueError(explain(error, job, overrides, config_dir)) from error
    check_complete(job, cfg, overrides, config_dir)
    settings = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def check_complete(
    job: str, cfg: DictConfig, overrides: Sequence[str] = (), config_dir: str | os.PathLike | None = None
) -> None:
    """Check that the job's own settings without a default are given; what a group lacks is for the job to check.

    Raises:
        ValueError: listing those that are not given; or naming one that is of another type than its class takes, or one
            that an override adds with a + and that nothing reads.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for key in (_key(argument) for argument in overrides if argument.startswith("+")):
        if not _is_read(job, key.partition("@")[2] or key.replace("/", "."), OmegaConf.to_container(cfg)):
            raise ValueError(_unknown_setting(key, job, overrides, config_dir))
    if not isinstance(out := "" if OmegaConf.is_missing(cfg, "out") else cfg.get("out", ""), str):
        given = "null" if out is None else out
        raise ValueError(f"out={given}: expected the name of a folder; a name that looks like a number is quoted twice")
    if not out and any(_key(argument) == "out" for argument in overrides):
        raise ValueError("out=: expected the name of a folder; the present one is out=.")
    unresolved = None
    try:
        settings = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:  # a setting refers to one that does not exist or is not given yet
        settings, unresolved = OmegaConf.to_container(cfg, resolve=False), error
    assert isinstance(settings, dict)
    check_like("", settings, _with_groups(job))
    check_declared(settings)
    check_types("", settings)
    if missing := sorted(str(key) for key, value in settings.items() if value == "???"):
        raise ValueError(f"{job} needs {' and '.join(f'{key}=…' for key in missing)}")
    if unresolved:
        raise ValueError(f"{unresolved.full_key}: {str(unresolved).splitlines()[0]}") from unresolved


def _defaults(job: str) -> Any:
    """The job's own YAML file, without its groups."""
    return _yaml(files(CONFIGS).joinpath(f"{job}.yaml"))


def _with_groups(job: str) -> dict[Any, Any]:
    """The job's own settings with those of its groups' default choices that no class takes, such as `data`."""
    from omegaconf import OmegaConf

    own = OmegaConf.to_container(_defaults(job))
    assert isinstance(own, dict)
    for entry in own.pop("defaults", []):
        for group, choice in entry.items() if isinstance(entry, dict) else ():
            path = files(CONFIGS).joinpath(group, f"{choice}.yaml")
            if path.is_file() and "_target_" not in path.read_text(encoding="utf-8"):
                own[group] = OmegaConf.to_container(_yaml(path))
    return own


def _yaml(path: Traversable) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.create(path.read_text(encoding="utf-8"))


def _is_read(job: str, key: str, settings: Any) -> bool:
    """Whether something reads a setting that was added to a job.

    The job reads its own settings and those that the files of its groups have; a class takes those of its node; a
    setting reads what it refers to. Mappings inside of groups, such as the parts of a sampler, may grow.
    """
    own = _defaults(job)
    groups = [str(name) for entry in own.pop("defaults", []) if not isinstance(entry, str) for name in entry]
    top, *inner = key.split(".")
    if f"${{{top}" in str(settings):
        return True
    if top not in {"hydra", *own, *(re.split(r"[@.]", f"{name}@{name}")[1] for name in groups)}:
        return False
    node = settings.get(top)
    if len(inner) != 1 or not isinstance(node, Mapping) or "_target_" in node:
        return True
    folder = files(CONFIGS).joinpath(top)
    paths = [path for path in folder.iterdir() if path.name.endswith(".yaml")] if folder.is_dir() else []
    known = {*(own.get(top) or {}), *(name for path in paths for name in _yaml(path))}
    return inner[0] in known or not known


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
        values = [(_key(o), v) for o in overrides for v in re.split(r"\W*,\W*", o.partition("=")[2].strip("\"'"))]
        keys = (key for key, value in values if f"{key.partition('@')[0]}/{value}" == error.missing_cfg_file)
        key = next(keys, error.missing_cfg_file.rpartition("/")[0])
        group = key.partition("@")[0]
        choice = error.missing_cfg_file.removeprefix(f"{group}/")  # it may be a path
        more = _ELSEWHERE.get(group.partition("/")[0], "") if job == "train" or group.startswith("hydra/") else ""
        return f"{key}={choice}: {suggest(choice, error.options)}choices of {group}: {', '.join(error.options)}{more}"
    if absent := re.match(r"In '([^']*)': Could not load '([^']*)'", text):  # in the list of defaults of a file
        return _absent(absent[1], absent[2], config_dir)
    if twice := re.match(r"Multiple values for (\S+)\.", text):
        return f"{twice[1]} is chosen twice, or with a + before it; write {twice[1]}=NAME once, without +"
    if unknown := re.match(r"Could not override '([^']*)'", text):
        inner = getattr(error.__cause__, "full_key", None) or ""  # `a={b:1}` where a has no b
        return _unknown_setting(max(unknown[1], inner, key=len), job, overrides, config_dir)
    if "override must be" in text:  # hydra names the value's type only
        return f"{' '.join(text.split())}; among {' '.join(overrides)}"
    cause = f" ({str(error.__cause__).splitlines()[0]})" if error.__cause__ else ""
    return " ".join(text.partition("\nConfig search path")[0].split()) + cause


def _absent(file: str, path: str, config_dir: str | os.PathLike | None) -> str:
    """What is wrong with a choice, `group/name`, that the defaults of a file make."""
    roots = [files(CONFIGS), *([Path(config_dir)] if config_dir else [])]
    group, _, choice = path.rpartition("/")
    while "/" in group and not any(root.joinpath(group).is_dir() for root in roots):  # the choice is a path
        group = group.rpartition("/")[0]
        choice = path.removeprefix(f"{group}/")
    folders = [folder for root in roots if (folder := root.joinpath(group)).is_dir()]
    known = sorted({path.name.removesuffix(".yaml") for folder in folders for path in folder.iterdir()})
    more = _ELSEWHERE.get(group, "")
    return f"{file}.yaml: no {group} {choice!r}; {suggest(choice, known)}choices: {', '.join(known)}{more}"


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
        return f"argument {argument!r}: expected key=value; --help has examples"
    works = quoted(argument)
    advice = f"; in a shell, write {works}" if works else ""
    return f"argument {argument!r}: a value with spaces, commas, brackets or = must be quoted{advice}"


def _unknown_setting(key: str, job: str, overrides: Sequence[str], config_dir: str | os.PathLike | None) -> str:
    """The settings that are nearest to one that does not exist, in the settings that the chosen groups have."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

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
    known = [*dict.fromkeys([*(name for name in _dotted(cfg) if name.split(".")[0] != "hydra"), *in_defaults])]
    if inner := [name for name in known if name.startswith(f"{key}.")]:
        return f"{key}: expected one of its settings: {', '.join(inner[:_KEYS_LISTED])}"
    group = key.partition("@")[0]
    if group in groups:
        return (
            f"{key}: {job} has no default of the group {group!r} there; groups: {', '.join(in_defaults)}. "
            f"+{group}@SETTING=NAME adds one under SETTING"
        )
    parent, _, last = key.rpartition(".")
    near = [name for name in known if name.rpartition(".")[2] == last]
    near += [name for name in known if last in name.rpartition(".")[2].split("_")]
    near += difflib.get_close_matches(key, known, n=_KEYS_LISTED, cutoff=0.7)
    near += [name for name in known if parent and name.rpartition(".")[0] == parent]
    listed = list(dict.fromkeys(near))[:_KEYS_LISTED] or sorted(name for name in known if "." not in name)
    free = parent in known and _is_read(job, key, OmegaConf.to_container(cfg))
    add = f"; +{key}=VALUE adds it nevertheless" if free else ""
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
