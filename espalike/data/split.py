"""Splits by connectivity, and the check that none leaks.

The unit of a split is the connectivity key (first InChIKey block): stereoisomers look the same to a stereo-blind
network, so they must be in one split.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from espalike.data.schema import SPLITS
from espalike.data.store import Store
from espalike.tables import counted

FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}
"""Default shares of molecules."""


class LeakageError(ValueError):
    """One connectivity sits on several splits."""


def hash_split(key: str, seed: int = 0, fractions: Mapping[str, float] = FRACTIONS) -> str:
    """Split of a connectivity key: the same on every machine and for any other data.

    Raises:
        ValueError: when a fraction is negative, names no split, or they do not sum to 1.
    """
    if (
        set(fractions) - set(SPLITS)
        or min(fractions.values(), default=0) < 0
        or abs(sum(fractions.values()) - 1) > 1e-9
    ):
        raise ValueError(f"fractions {dict(fractions)}: expected shares of {', '.join(SPLITS)} that sum to 1")
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    for split in SPLITS:
        position -= fractions.get(split, 0.0)
        if position < 0:
            return split
    return next(split for split in reversed(SPLITS) if fractions.get(split, 0.0) > 0)


def split_of(key: str, seed: int = 0, fractions: Mapping[str, float] = FRACTIONS) -> str:
    """Split of an entry by hash: that of its molecule; of a complex, the strictest of its molecules (test, then val).

    So each complex outside the training split has a molecule that no complex of the training split has.

    Raises:
        ValueError: see `hash_split`.
    """
    return max((hash_split(part, seed, fractions) for part in key.split("+")), key=SPLITS.index)


def _sides(stores: Sequence[Store]) -> dict[str, dict[str, list[tuple[str, str]]]]:
    """Key → split → (store, entry) of every entry that has a split."""
    sides: dict[str, dict[str, list[tuple[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for store in stores:
        for key, split, name in zip(store.column("key"), store.column("split"), store.column("id"), strict=True):
            if split:
                sides[key][split].append((store.name, name))
    return sides


def check_leakage(stores: Sequence[Store]) -> None:
    """Check that no connectivity sits on several splits, within a store or across them.

    Raises:
        LeakageError: naming the molecules, where they sit, and what to do.
    """
    leaks = {key: by_split for key, by_split in _sides(stores).items() if len(by_split) > 1}
    if not leaks:
        return
    shown = []
    for key, by_split in list(leaks.items())[:5]:
        where = "; ".join(f"{split}: {entries[0][0]}/{entries[0][1]}" for split, entries in sorted(by_split.items()))
        shown.append(f"  {key} ({where})")
    more = f"\n  and {len(leaks) - 5} more" if len(leaks) > 5 else ""
    raise LeakageError(
        f"{counted(len(leaks), 'molecule')} on several splits:\n" + "\n".join(shown) + more + "\n"
        "Ingest with the same split, or resolve: each goes to the strictest side it sits on (test, then val)."
    )


@dataclass(frozen=True)
class Resolution:
    """Splits by connectivity key without leakage.

    Attributes:
        splits: split of each key.
        moved: how many entries change sides, by `from → to`.
    """

    splits: dict[str, str]
    moved: dict[str, int]


def resolve_splits(stores: Sequence[Store]) -> Resolution:
    """Put every molecule on the strictest side it sits on anywhere: test before val before train."""
    splits, moved = {}, Counter[str]()
    for key, by_split in _sides(stores).items():
        target = max(by_split, key=SPLITS.index)
        splits[key] = target
        moved.update({f"{split} → {target}": len(entries) for split, entries in by_split.items() if split != target})
    return Resolution(splits, dict(moved))
