"""Where a model comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from espalike.domain import ChemicalDomain


@dataclass
class Provenance:
    """Where a model comes from; plain data, stored in its file.

    Attributes:
        config: the configuration the network is rebuilt from.
        domain: chemistry of the training molecules.
        data: name, hash, source and licence of each store.
        split: connectivity keys by split.
        figures: errors in validation and test, as in the model card.
        notes: other remarks, for example the training configuration.
    """

    config: dict[str, Any]
    domain: ChemicalDomain = field(default_factory=ChemicalDomain)
    data: list[dict[str, Any]] = field(default_factory=list)
    split: dict[str, list[str]] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


def common(provenances: Sequence[Provenance]) -> Provenance:
    """The provenance of an ensemble, from those of its members, which have the same configuration.

    A molecule is inside its domain if it is inside that of every member. Its training molecules are those of any
    member, and what is validated is in no member's training. Figures and notes are those that all members have.

    Raises:
        ValueError: for members without a common element or net charge.
    """
    first, *others = provenances
    if all(other == first for other in others):
        return first
    data = {store.get("hash", str(store)): store for each in reversed(provenances) for store in reversed(each.data)}
    keys = {name: {key for p in provenances for key in p.split.get(name, ())} for name in ("train", "val", "test")}
    keys = {"train": keys["train"], "val": keys["val"] - keys["train"], "test": keys["test"] - keys["train"]}
    return Provenance(
        first.config,
        _domain([provenance.domain for provenance in provenances]),
        list(data.values())[::-1],
        {name: sorted(listed) for name, listed in keys.items() if listed},
        first.figures if all(other.figures == first.figures for other in others) else {},
        {name: note for name, note in first.notes.items() if all(other.notes.get(name) == note for other in others)},
    )


def _domain(domains: Sequence[ChemicalDomain]) -> ChemicalDomain:
    """The chemistry that several domains share."""
    first, *others = domains
    elements = set(first.elements).intersection(*(other.elements for other in others))
    low, high = max(domain.charges[0] for domain in domains), min(domain.charges[1] for domain in domains)
    if all(domain.elements for domain in domains) and (not elements or low > high):
        raise ValueError("members of an ensemble have no element or no net charge of training molecules in common")
    environments = set(first.environments).intersection(*(other.environments for other in others))
    counted = set(first.counts).intersection(*(other.counts for other in others))
    return ChemicalDomain(
        tuple(sorted(elements)),
        tuple(sorted(environments)),
        (low, high) if elements else (0, 0),
        {text: min(domain.counts[text] for domain in domains) for text in sorted(counted)},
    )
