"""The chemistry a model was trained on, and whether a molecule is part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from espalike.chem.molecule import Molecule


class DomainError(ValueError):
    """A molecule holds what the model has never seen and cannot be trusted with."""


def environments(molecule: Molecule) -> list[str]:
    """Each atom's element and neighbour elements, e.g. `C(CHHO)`: what a domain is made of."""
    from rdkit.Chem import GetPeriodicTable

    symbol = GetPeriodicTable().GetElementSymbol
    symbols = [symbol(int(z)) for z in molecule.numbers]
    neighbours: list[list[str]] = [[] for _ in symbols]
    for i, j in molecule.bonds:
        neighbours[i].append(symbols[j])
        neighbours[j].append(symbols[i])
    return [f"{own}({''.join(sorted(near))})" for own, near in zip(symbols, neighbours, strict=True)]


@dataclass(frozen=True)
class ChemicalDomain:
    """Chemistry a model was trained on.

    Attributes:
        elements: atomic numbers seen.
        environments: atom environments seen, as `environments` names them.
        charges: smallest and largest net charge seen.
    """

    elements: tuple[int, ...] = ()
    environments: tuple[str, ...] = ()
    charges: tuple[int, int] = (0, 0)

    @staticmethod
    def of(molecules: Sequence[Molecule]) -> ChemicalDomain:
        """The domain that molecules span."""
        seen = sorted({name for molecule in molecules for name in environments(molecule)})
        elements = sorted({int(z) for molecule in molecules for z in molecule.numbers})
        net = [molecule.net_charge for molecule in molecules] or [0]
        return ChemicalDomain(tuple(elements), tuple(seen), (min(net), max(net)))

    def check(self, molecule: Molecule) -> tuple[str, ...]:
        """Warnings about environments and charges that training did not hold.

        Raises:
            DomainError: for an element never seen: its parameters would be made up.
        """
        unseen = sorted(set(molecule.numbers.tolist()) - set(self.elements))
        if unseen:
            from rdkit.Chem import GetPeriodicTable

            symbol = GetPeriodicTable().GetElementSymbol
            raise DomainError(
                f"{molecule.name}: the model was never trained on {', '.join(map(symbol, unseen))}; "
                f"it knows {', '.join(map(symbol, self.elements))}. Train or choose a model that covers it."
            )
        known = set(self.environments)
        warnings = [
            f"atom {i + 1}: environment {name} was not in training"
            for i, name in enumerate(environments(molecule))
            if name not in known
        ]
        low, high = self.charges
        if not low <= molecule.net_charge <= high:
            warnings.append(f"net charge {molecule.net_charge:+d} is outside the trained range {low:+d} to {high:+d}")
        return tuple(warnings)
