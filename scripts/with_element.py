"""The training molecules of stores that have an element: python scripts/with_element.py I OUT.smi STORE...

Writes their mapped SMILES, each molecule once, for `espalike label input=OUT.smi`.
"""

import argparse
from pathlib import Path

from rdkit import Chem

from espalike.data.store import open_stores
from espalike.files import write


def main() -> None:
    """Find and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("element", help="symbol")
    parser.add_argument("out", type=Path)
    parser.add_argument("stores", nargs="+")
    args = parser.parse_args()
    number = Chem.GetPeriodicTable().GetAtomicNumber(args.element)
    found: dict[str, None] = {}
    for store in open_stores(args.stores):
        for i, (split, smiles) in enumerate(zip(store.column("split"), store.column("smiles"), strict=True)):
            if split == "train" and number in store.record(i).molecule.numbers:
                found.setdefault(smiles)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write(args.out, "".join(f"{smiles} {args.element}{n}\n" for n, smiles in enumerate(found, start=1)))
    print(f"wrote {len(found)} molecules to {args.out}")


if __name__ == "__main__":
    main()
