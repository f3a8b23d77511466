"""Training that goes on from a model: its force field and weights, what stays frozen, where all of it comes from."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espalike.model import ChemicalDomain, ForceFieldModel, Provenance, find, from_config, load
from espalike.nn.build import resolve

ENCODER = "encoder"
"""What `freeze` calls the message passing; anything else names terms."""


def with_force_field_of(name: str, plain: dict[str, Any], asked: Sequence[str] = ()) -> dict[str, Any]:
    """The configuration of a run with force field and network of a model in place of its own.

    Args:
        name: a shipped model or a model file.
        plain: the configuration.
        asked: dotted paths of the settings in it that the user gave: `forcefield`, `model.width`, …

    Raises:
        ValueError: when one of these is of force field or network, and not what the model has.
    """
    provenance = _provenance(load(name))
    terms = {str(number): term for number, term in enumerate(provenance.config["terms"])}
    network = {key: v for key, v in provenance.config.items() if key not in ("terms", "conv", "levels")}
    form = {"name": provenance.notes.get("forcefield", ""), "term": terms}
    taken = {**plain, "forcefield": form, "conv": provenance.config["conv"], "model": network}
    wrong = [path for path in asked if path.split(".")[0] in ("forcefield", "conv", "model")]
    said = list(dict.fromkeys(difference for path in wrong for difference in _differences(path, plain, taken)))
    if said:
        raise ValueError(
            f"start={name} brings its own force field and network, which are not as asked for: {'; '.join(said)}. "
            "Leave these settings out, or train without start"
        )
    return taken


def _differences(path: str, given: dict[str, Any], taken: dict[str, Any]) -> list[str]:
    """In words, what configuration `taken` has instead of what `path` chose in `given`."""
    parts = path.split(".")
    if parts[:2] == ["forcefield", "term"] and len(parts) > 3 and parts[2] in given["forcefield"]["term"]:
        parts[2] = _class_name(given["forcefield"]["term"][parts[2]])
    elif parts[0] == "forcefield":  # whole forms and terms, added, replaced or taken away: the list of them counts
        parts = ["forcefield", "term"]
    chosen, own, other = ".".join(parts), _settings(given), _settings(taken)
    said = []
    for part, name in dict.fromkeys(leaf for leaf in (*own, *other) if f"{'.'.join(leaf)}.".startswith(f"{chosen}.")):
        has, wanted = (side.get((part, "_target_"), "").rpartition(".")[2] for side in (other, own))
        if has != wanted:
            said.append(f"it has {has}, not {wanted}" if has and wanted else f"it has {has or f'no {wanted}'}")
        elif own.get((part, name)) != other.get((part, name)):
            said.append(f"its {part}.{name} is {other.get((part, name))}, not {own.get((part, name))}")
    return said


def _settings(plain: dict[str, Any]) -> dict[tuple[str, str], Any]:
    """Settings of force field and network by part and name, with the defaults of their constructors."""
    parts = {f"forcefield.term.{_class_name(term)}": term for term in plain["forcefield"]["term"].values()}
    parts |= {"conv": plain["conv"], "model": {"_target_": "espalike.model.ForceFieldModel", **plain["model"]}}
    found: dict[tuple[str, str], Any] = {}
    for name, own in parts.items():
        parameters = inspect.signature(resolve(own["_target_"])).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        found |= {(name, key): value for key, value in {**defaults, **own}.items()}
    return found


def _class_name(settings: dict[str, Any]) -> str:
    return settings["_target_"].rpartition(".")[2]


def _provenance(model: ForceFieldModel) -> Provenance:
    assert model.provenance is not None  # it was loaded
    return model.provenance


def copied(start: ForceFieldModel, levels: Sequence[str]) -> ForceFieldModel:
    """A model with the weights of another, for training on other levels of theory.

    The target's parameters are the other's. A level that both know keeps its shift; one that is new begins untrained.
    """
    model = from_config({**_provenance(start).config, "levels": list(levels)})
    own, state = model.state_dict(), start.state_dict()
    for key in own:
        match = re.fullmatch(r"(heads\.\d+\.shift\.)(\d+)(\..*)", key)
        if match is None:
            own[key] = state[key]
        elif levels[int(match[2]) + 1] in start.levels[1:]:
            number = start.levels.index(levels[int(match[2]) + 1]) - 1
            own[key] = state[f"{match[1]}{number}{match[3]}"]
    model.load_state_dict(own)
    return model


def freeze(model: ForceFieldModel, names: Sequence[str]) -> None:
    """Exclude parts of a model from training.

    The weights stay as they are. Parameters of a frozen term stay exactly as they are where the encoder is frozen too;
    otherwise they follow what the encoder makes of an atom.

    Args:
        model: the model.
        names: `encoder`, terms (`LennardJones`), or all terms on a kind of tuple (`bond`, `angle`, `proper`,
            `improper`, `pair`, …).

    Raises:
        ValueError: when the model has no such part, a term shares its head with one that is not frozen, or nothing is
            left to train.
    """
    names = [names] if isinstance(names, str) else names
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


def add_history(model: ForceFieldModel, start: ForceFieldModel, name: str) -> None:
    """Add to a model's provenance what the model it starts from has seen.

    Args:
        model: the model, with the provenance of the run alone.
        start: what it starts from.
        name: what the user calls that.
    """
    own, before = _provenance(model), _provenance(start)
    low, high = zip(own.domain.charges, before.domain.charges, strict=True)
    own.domain = ChemicalDomain(
        tuple(sorted({*own.domain.elements, *before.domain.elements})),
        tuple(sorted({*own.domain.environments, *before.domain.environments})),
        (min(low), max(high)),
    )
    known = {store["hash"] for store in own.data}
    own.data = own.data + [store for store in before.data if store["hash"] not in known]
    trained = {*own.split.get("train", ()), *before.split.get("train", ())}
    val = {*own.split.get("val", ()), *before.split.get("val", ())} - trained
    own.split = {"train": sorted(trained), "val": sorted(val)}
    digest = hashlib.sha256(Path(find(name)).read_bytes()).hexdigest()
    own.notes["start"] = {"model": str(name), "sha256": digest}


def seen_before(start: ForceFieldModel, keys: Sequence[str]) -> int:
    """How many connectivity keys a model was trained on."""
    return len(set(keys) & set(_provenance(start).split.get("train", ())))
