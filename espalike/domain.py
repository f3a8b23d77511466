"""The chemistry a model was trained on, and whether a molecule is part of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rdkit.Chem import GetPeriodicTable

from espalike.chem.molecule import Molecule


class DomainError(ValueError):
    """A molecule has an element that the model was not trained on."""


def _symbols(numbers: Iterable[int]) -> list[str]:
    """Element symbols of atomic numbers."""
    return [GetPeriodicTable().GetElementSymbol(int(z)) for z in numbers]


def environments(molecule: Molecule) -> list[str]:
    """Each atom's element and neighbour elements, e.g. `C(CHHO)`: a domain consists of these."""
    symbols = _symbols(molecule.numbers)
    neighbours: list[list[str]] = [[] for _ in symbols]
    for i, j in molecule.bonds:
        neighbours[i].append(symbols[j])
        neighbours[j].append(symbols[i])
    return [f"{symbol}({''.join(sorted(near))})" for symbol, near in zip(symbols, neighbours, strict=True)]


@dataclass(frozen=True)
class ChemicalDomain:
    """Chemistry a model was trained on.

    Attributes:
        elements: atomic numbers.
        environments: atom environments, as `environments` names them.
        charges: smallest and largest net charge [e].
    """

    elements: tuple[int, ...] = ()
    environments: tuple[str, ...] = ()
    charges: tuple[int, int] = (0, 0)

    @staticmethod
    def from_header(content: dict[str, Any]) -> ChemicalDomain:
        """The domain that a model file describes."""
        return ChemicalDomain(**{key: tuple(value) for key, value in content.items()})

    @property
    def symbols(self) -> list[str]:
        """Symbols of the elements."""
        return _symbols(self.elements)

    @property
    def charge_range(self) -> str:
        """Smallest and largest net charge [e], as text."""
        return "{:+d} to {:+d}".format(*self.charges)

    @staticmethod
    def of(molecules: Sequence[Molecule]) -> ChemicalDomain:
        """The domain that molecules span."""
        seen = sorted({name for molecule in molecules for name in environments(molecule)})
        elements = sorted({int(z) for molecule in molecules for z in molecule.numbers})
        net = [molecule.net_charge for molecule in molecules] or [0]
        return ChemicalDomain(tuple(elements), tuple(seen), (min(net), max(net)))

    def check(self, molecule: Molecule) -> tuple[str, ...]:
        """Warnings about environments and charges that were not in training.

        Raises:
            DomainError: for an element that was not in training: its parameters would be arbitrary.
        """
        unseen = sorted(set(molecule.numbers.tolist()) - set(self.elements))
        if unseen:
            raise DomainError(
                f"{molecule.name}: the model was never trained on {', '.join(_symbols(unseen))}; "
                f"it knows {', '.join(self.symbols)}. Train or choose a model that covers it."
            )
        known = set(self.environments)
        warnings = [
            f"atom {i + 1}: environment {name} was not in training"
            for i, name in enumerate(environments(molecule))
            if name not in known
        ]
        if not self.charges[0] <= molecule.net_charge <= self.charges[1]:
            warnings.append(f"net charge {molecule.net_charge:+d} is outside the trained range {self.charge_range}")
        return tuple(warnings)
