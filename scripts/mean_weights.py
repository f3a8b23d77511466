"""The mean of the weights of models trained one from another: python scripts/mean_weights.py OUT MODEL MODEL...

Networks of one ensemble are averaged with those of the same number (M. Wortsman et al., ICML 2022, model soups). The
description is that of the last model, whose run says on which data the mean is validated. Writes OUT/model.espalike.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml

from espalike.model import Ensemble, load
from espalike.training.ensemble import validate
from espalike.training.prepare import prepare


def averaged(models: Sequence[Ensemble]) -> Ensemble:
    """The last of the models with the mean of all their weights."""
    states = [model.state_dict() for model in models]
    models[-1].load_state_dict({name: torch.stack([state[name] for state in states]).mean(0) for name in states[-1]})
    return models[-1]


def main() -> None:
    """Average, validate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("models", type=Path, nargs="+", help="model files of ensembles in the folders of their runs")
    args = parser.parse_args()
    models = [model for path in args.models if isinstance(model := load(path), Ensemble)]
    if len(models) < len(args.models):
        parser.error("expected ensembles")
    mean = averaged(models)
    assert mean.provenance is not None
    mean.provenance.notes["mean of weights"] = [str(path) for path in args.models]
    settings = yaml.safe_load((args.models[-1].parent / "member-1" / "config.yaml").read_text())
    module, _, batches = prepare(settings, print)
    validate(mean, module, batches)
    args.out.mkdir(parents=True, exist_ok=True)
    mean.save(args.out / "model.espalike")
    print(f"wrote {args.out / 'model.espalike'}")


if __name__ == "__main__":
    main()
