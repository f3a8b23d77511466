"""`espalike landscape`: composes the settings, draws accuracy against cost, and prints the table."""

from __future__ import annotations

from typing import Any, cast

HELP = """usage: espalike landscape [key=value ...]

Score models, force fields, ML potentials and QM methods on the same geometries, measure their cost in the same run, and
draw the plane.

example:
  espalike landscape 'methods=[espalike-1,mmff94]' resamples=200 out=runs/landscape
  espalike landscape data.path=td.h5 'methods=[espalike-1,mine.espalike,openff-2.3.0,gfn2-xtb,aimnet2]'

  methods=[...]           models (names or files), OpenFF force fields (openff-2.3.0, openff-3.0.0-alpha0),
                          calculators of `espalike label`: gaff2, garnet, uff, mmff94s, gfn1-xtb, ani1x, ... What is not
                          installed is skipped, and a note says what installs it. espalike-2+aimnet2@4fs: multiple time
                          steps, with the errors of aimnet2 and the cost per inner step of 1 fs
  labels=pyscf            the calculator that made the labels: it has no error, and marks their cost. One energy of a
                          molecule of 22 atoms is timed, which takes a minute with DFT
  data.path=PATH|[...]    stores, HDF5 files, or `sample`: the embedded set; data.split=test, data.level=LEVEL
  reader=NAME             layout of other files
  metric=force_rmse       on the plane; or energy_rmse
  geometries=20           number of molecules that are minimised with every method, conformers=4 of each; 0: none
  water=[5000,50000]      sizes (atoms) of water boxes in which a step of each force field is timed, with PME; []: none
  out=DIR                 for report.html, table.csv, landscape.json, plane.png, plane.svg

Cost is processor time per energy and forces on one thread, for peptides of 22, 52 and 102 atoms: of a force field, a
step of OpenMM on its CPU platform; of the others, a call."""


def run(cfg) -> int:
    """Draw the landscape as configured and print its table; 1 when a model failed on an entry.

    Raises:
        ValueError: see `espalike.landscape.run.landscape`.
    """
    from omegaconf import OmegaConf

    from espalike.landscape.run import landscape
    from espalike.tables import text_table

    settings = cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True))
    result = landscape(settings, print)
    rows = [
        {"method": p.method, "kind": p.kind, "ms": f"{p.ms:.4g}", settings["metric"]: f"{p.error:.2f}"}
        for p in sorted(result.points, key=lambda point: point.ms)
    ]
    if rows:
        print(f"\ncost at 52 atoms (labels: at 22) and error\n{text_table(rows)}")
    return 1 if result.evaluation.failures else 0
