"""Training that starts from a model: its force field and weights, frozen parts, and provenance."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from espalike.model import ChemicalDomain, Ensemble, ForceFieldModel, Provenance, find, from_config, load
from espalike.nn.build import resolve
from espalike.nn.heads import TermHead

ENCODER = "encoder"
"""The name of the message passing for `freeze`; all other names are terms."""


def with_force_field_of(name: str, settings: dict[str, Any], chosen: Sequence[str] = ()) -> dict[str, Any]:
    """The settings of a run with the force field and the network of a model.

    With `convert` in the settings, only the network is the model's; the force field is that of the settings.

    Args:
        name: a shipped model or a model file.
        settings: the settings of the run.
        chosen: dotted paths of the settings that the user chose: `forcefield`, `model.width`, …

    Raises:
        ValueError: when the user chose a force field or network that differs from the model's.
    """
    provenance = _provenance(load(name))
    terms = {str(number): term for number, term in enumerate(provenance.config["terms"])}
    network = {key: v for key, v in provenance.config.items() if key not in ("terms", "conv", "levels")}
    form = {"name": provenance.notes.get("forcefield", ""), "term": terms}
    if settings.get("convert"):
        form = settings["forcefield"]
    result = {**settings, "forcefield": form, "conv": provenance.config["conv"], "model": network}
    paths = [path for path in chosen if path.split(".")[0] in ("forcefield", "conv", "model")]
    differences = dict.fromkeys(text for path in paths for text in _differences(path, settings, result))
    if differences:
        raise ValueError(
            f"start={name} has its own force field and network, which differ from these settings: "
            f"{'; '.join(differences)}. Leave these settings out, change the force field with convert=true, or train "
            "without start"
        )
    return result


def _differences(path: str, given: dict[str, Any], taken: dict[str, Any]) -> list[str]:
    """Messages on how `taken` differs from `given` in the setting, or group of settings, `path`."""
    parts = path.split(".")
    if parts[:2] == ["forcefield", "term"] and len(parts) > 3 and parts[2] in given["forcefield"]["term"]:
        parts[2] = _class_name(given["forcefield"]["term"][parts[2]])
    elif parts[0] == "forcefield":  # terms were added, replaced or removed: compare all of them
        parts = ["forcefield", "term"]
    prefix, before, after = ".".join(parts), _settings(given), _settings(taken)
    differences = []
    for part, name in dict.fromkeys(key for key in (*before, *after) if f"{'.'.join(key)}.".startswith(f"{prefix}.")):
        has, expected = (side.get((part, "_target_"), "").rpartition(".")[2] for side in (after, before))
        if has != expected:
            differences.append(
                f"it has {has}, not {expected}" if has and expected else f"it has {has or f'no {expected}'}"
            )
        elif before.get((part, name)) != after.get((part, name)):
            differences.append(f"its {part}.{name} is {after.get((part, name))}, not {before.get((part, name))}")
    return differences


def _settings(settings: dict[str, Any]) -> dict[tuple[str, str], Any]:
    """Settings of force field and network by part and name, with the defaults of their constructors."""
    parts = {f"forcefield.term.{_class_name(term)}": term for term in settings["forcefield"]["term"].values()}
    parts |= {"conv": settings["conv"], "model": {"_target_": "espalike.model.ForceFieldModel", **settings["model"]}}
    values: dict[tuple[str, str], Any] = {}
    for name, part in parts.items():
        parameters = inspect.signature(resolve(part["_target_"])).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        values |= {(name, key): value for key, value in {**defaults, **part}.items()}
    return values


def _class_name(settings: dict[str, Any]) -> str:
    return settings["_target_"].rpartition(".")[2]


def _provenance(model: ForceFieldModel) -> Provenance:
    assert model.provenance is not None  # it was loaded
    return model.provenance


def copied(
    start: ForceFieldModel, levels: Sequence[str], terms: Sequence[Mapping[str, Any]] | None = None
) -> ForceFieldModel:
    """A model with the weights of `start`, for training on these levels of theory.

    Shifts of levels that both models have are kept; those of new levels begin untrained. So do the heads and universal
    parameters that `start` lacks, where the model has other terms.

    Args:
        start: the model that gives the weights; of an ensemble, each member does for one of an ensemble.
        levels: levels of theory, the target first.
        terms: settings of the new model's terms; None: those of `start`.
    """
    if isinstance(start, Ensemble):
        return Ensemble([copied(member, levels, terms) for member in start.members])
    config = {**_provenance(start).config, "levels": list(levels)}
    model = from_config(config if terms is None else {**config, "terms": list(terms)})
    weights, before = model.state_dict(), start.state_dict()
    matches = [_match(head, start) for head in model.heads]
    for key in weights:
        parts = re.fullmatch(r"heads\.(\d+)\.(?:shift\.(\d+)\.)?(.*)", key)
        old, rows = key, None
        if parts is not None:
            match, level = matches[int(parts[1])], parts[2] and levels[int(parts[2]) + 1]
            if match is None or (level and level not in start.levels[1:]):
                continue
            shift = f"shift.{start.levels.index(level) - 1}." if level else ""
            old, rows = f"heads.{match.head}.{shift}{parts[3]}", match.rows
        if old in before:
            weights[key] = _rows(before[old], rows, weights[key])
    model.load_state_dict(weights)
    return model


@dataclass(frozen=True)
class _Match:
    """A head of another model that gives parameters of a head, on the same tuples.

    Attributes:
        head: its number.
        rows: its parameter for each one of the head; None where it has none. Empty for heads of charges.
    """

    head: int
    rows: tuple[int | None, ...] = ()


def _match(head: nn.Module, start: ForceFieldModel) -> _Match | None:
    """The head of `start` that is built alike and all of whose parameters the head has, in order; None without one."""
    for number, module in enumerate(start.heads):
        if not isinstance(head, TermHead):
            if type(module) is type(head):
                return _Match(number)
        elif isinstance(module, TermHead) and module.kind is head.kind and _alike(module, head):
            left = [(p.name, p.link) for p in module.params]
            rows: list[int | None] = []
            for param in head.params:
                found = bool(left) and left[0] == (param.name, param.link)
                rows.append(len(module.params) - len(left) if found else None)
                left = left[1:] if found else left
            if not left:
                return _Match(number, tuple(rows))
    return None


def _alike(first: TermHead, second: TermHead) -> bool:
    """Whether two heads have the same layers but for the number of parameters, the size of the last layer."""
    shapes = [
        [w.shape[name.startswith(f"tuple.{len(head.head.tuple) - 1}.") :] for name, w in head.head.state_dict().items()]
        for head in (first, second)
    ]
    return shapes[0] == shapes[1]


def _rows(before: Tensor, rows: tuple[int | None, ...] | None, new: Tensor) -> Tensor:
    """Weights in place of `new`; rows of parameters that the other head lacks are zero: their values are the means."""
    if before.shape == new.shape or not rows:
        return before
    return torch.stack([torch.zeros_like(new[0]) if row is None else before[row] for row in rows])


def untrained(model: ForceFieldModel, start: ForceFieldModel) -> list[str]:
    """Terms of a model with weights of `start` that have parameters, or charges, which `start` lacks."""
    model, start = model.members[0], start.members[0]
    matches = [_match(head, start) for head in model.heads]
    lacking = []
    for (term, _), (head, column) in model.heads.places.items():
        match = matches[head]
        if match is None or match.rows[column] is None:
            lacking.append(model.terms[term].name)
    lacking += [
        name for name, match in zip(model.heads.names, matches, strict=True) if match is None and "+" not in name
    ]
    return [term.name for term in model.terms if term.name in lacking]


def freeze(model: ForceFieldModel, names: Sequence[str]) -> None:
    """Exclude parts of a model from training.

    Their weights do not change. The parameters of a frozen term do not change either if the encoder is frozen, too;
    otherwise they follow the encoder's representation of the atoms.

    Args:
        model: the model.
        names: `encoder`, terms (`LennardJones`), or all terms on a kind of tuple (`bond`, `angle`, `proper`,
            `improper`, `pair`, …).

    Raises:
        ValueError: when the model has no such part, a frozen term shares its head with one that is not frozen, or
            nothing is left to train.
    """
    names = [names] if isinstance(names, str) else names
    if not names:
        return
    frozen = {term.name for term in model.terms if {term.name, term.kind.value} & set(names)}
    parts = {ENCODER, *(term.name for term in model.terms), *(term.kind.value for term in model.terms)}
    unknown = [name for name in names if name not in parts]
    if unknown:
        raise ValueError(f"freeze: the model has no {', '.join(unknown)}; it has {', '.join(sorted(parts))}")
    if ENCODER in names:
        model.encoder.requires_grad_(False)
    for served, head in zip(model.heads.names, model.heads, strict=True):
        terms = set(served.split("+"))
        if terms <= frozen:
            head.requires_grad_(False)
        elif terms & frozen:
            raise ValueError(f"freeze: {', '.join(sorted(terms))} share one network; freeze all of them or none")
    for term in model.terms:
        for param in term.params:
            if param.universal and term.name in frozen:
                model.heads.get_parameter(f"{term.name}_{param.name}").requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(f"freeze: {', '.join(names)} leaves nothing to train")


def _larger(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    """At least how many training molecules of two runs have each surrounding; nothing where `before` was not counted.

    The larger of two counts: the runs may share their molecules. A run on complexes alone counts none.
    """
    return {text: max(now.get(text, 0), before.get(text, 0)) for text in sorted({*now, *before})} if before else {}


def add_history(model: ForceFieldModel, start: ForceFieldModel, name: str) -> None:
    """Add the domain, the data and the split of the model that training starts from to a model's provenance.

    Args:
        model: the model, whose provenance is that of this run.
        start: the model that training starts from.
        name: its shipped name or file.
    """
    now, before = _provenance(model), _provenance(start)
    low, high = zip(now.domain.charges, before.domain.charges, strict=True)
    now.domain = ChemicalDomain(
        tuple(sorted({*now.domain.elements, *before.domain.elements})),
        tuple(sorted({*now.domain.environments, *before.domain.environments})),
        (min(low), max(high)),
        _larger(now.domain.counts, before.domain.counts),
    )
    known = {store["hash"] for store in now.data}
    now.data = now.data + [store for store in before.data if store["hash"] not in known]
    trained = {*now.split.get("train", ()), *before.split.get("train", ())}
    val = {*now.split.get("val", ()), *before.split.get("val", ())} - trained
    now.split = {"train": sorted(trained), "val": sorted(val)}
    digest = hashlib.sha256(Path(find(name)).read_bytes()).hexdigest()
    now.notes["start"] = {"model": str(name), "sha256": digest, "untrained": untrained(model, start)}


def seen_before(start: ForceFieldModel, keys: Sequence[str]) -> int:
    """The number of these connectivity keys that a model was trained on."""
    return len(set(keys) & set(_provenance(start).split.get("train", ())))
