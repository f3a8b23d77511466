"""`espalike evaluate`: composes the settings, scores models and baselines, and prints the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

HELP = """usage: espalike evaluate [key=value ...]

Score model files and baselines against QM energies and forces. Energies are relative to their mean over an entry's
conformers; errors are pooled over conformers and force components; 95 % intervals come from resampling molecules.

example:
  espalike evaluate model=espalike-1 data.path=sample data.split=test 'baselines=[mmff94,gfn2-xtb]' out=runs/scores

  model=PATH|NAME|[...]   model files or shipped models
  level=LEVEL             score models at this level of theory instead of their target level: one that they were
                          trained with (`espalike info MODEL` lists them), with its equilibrium bonds and angles
  baselines=[...]         any calculator of `espalike label` (mmff94, gfn2-xtb, ani1x, pyscf, ...), openff-VERSION for
                          an installed OpenFF force field (openff-2.2.1, openff-2.3.0), an .offxml file, or zero (one
                          energy for all conformers, no forces). With settings, and a name for the tables:
                          'baselines=[{calculator: openmm-xml, files: ligand.xml, label: mine}]'
  data.path=PATH|[...]    stores, HDF5 files, or `sample`: the embedded set
  reader=NAME             layout of other files (spice, sdf, ...), with its options: reader.level=...
  data.split=test         train, val, test, or null for everything
  data.level=LEVEL        only entries of this level of theory
  data.audit=error|off    consequence when a file's labels have a wrong unit or sign; files are filtered as by ingest
  terms=true              also what each term of a force field contributes: terms.csv
  out=DIR                 gets table.csv, summary.json, parity.png; interactions.csv of complexes

Complexes are scored by interaction energies, E(AB) - E(A) - E(B), by set, kind of interaction and distance, on the
complexes that all methods cover.

Each method is scored on all entries that it covers; a row gives their number of molecules. If a method does not cover
all entries, a second table (common.csv) compares all methods on the entries that every method covers. If some molecules
are outside the chemical domain of a model, a third table (inside.csv) has those inside the domain of every model.
A baseline that is not installed is skipped. Entries that a baseline does not cover, or a skipped baseline, leave the
exit status at 0; entries that a model does not cover, or that cannot be read, make it 1."""


def run(cfg) -> int:
    """Evaluate as configured and print the tables; 1 when a model failed on an entry, or an entry could not be read.

    Raises:
        ValueError: see `espalike.evaluation.run.evaluate`.
    """
    from omegaconf import OmegaConf

    from espalike.evaluation import show
    from espalike.evaluation.run import evaluate

    settings = cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True))
    settings["baselines"] = _with_own(settings["baselines"])
    result = evaluate(settings, print)
    parts = [repr(result), show.contributions(result.contributions), show.worst(result.worst, result.outside)]
    print(*filter(None, parts), sep="\n\n")
    unread = [entry for entry in result.rejected if not entry.reason.startswith("conformer: ")]
    return 1 if result.failures or unread else 0


def _with_own(baselines: Any) -> Any:
    """The baselines, with the settings of those whose YAML is in a folder given by `--config-dir`."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    if not isinstance(baselines, list) or not HydraConfig.initialized():
        return baselines
    sources = HydraConfig.get().runtime.config_sources
    folders = [Path(source.path) / "calculator" for source in sources if source.schema == "file"]

    def own(entry: Any) -> Any:
        named = {"calculator": entry} if isinstance(entry, str) else dict(entry)
        for folder in folders:
            if (path := folder / f"{named.get('calculator')}.yaml").is_file():
                defaults = cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.load(path), resolve=True))
                label = named.pop("calculator")
                return {"label": label, **defaults, **named}
        return entry

    return [own(entry) for entry in baselines]
