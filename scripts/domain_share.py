"""Shares of collections that are inside the domain of a model: python scripts/domain_share.py MODEL [COLLECTION ...]

Collections are those of `espalike molecules`, minidrugbank and freesolv by default. Of mixtures, the first part counts.
"""

import argparse

from espalike.chem import ChemistryError, from_smiles
from espalike.chem.pool import components
from espalike.cli.molecules_input import read_source
from espalike.model import DomainError, load


def main() -> None:
    """Print a line per collection."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("collections", nargs="*", default=["minidrugbank", "freesolv"])
    args = parser.parse_args()
    domain = load(args.model).domain
    for collection in args.collections:
        inside = known = refused = unreadable = 0
        for name, smiles in read_source(collection):
            try:
                molecule = from_smiles(components(smiles or "")[0], name)
            except (ChemistryError, IndexError):
                unreadable += 1
                continue
            known += 1
            try:
                inside += not domain.check(molecule)
            except DomainError:
                refused += 1
        share = f"{100 * inside / known:.1f} %" if known else "none"
        print(f"{collection}: {inside} of {known} inside ({share}), {refused} refused, {unreadable} not readable")


if __name__ == "__main__":
    main()
