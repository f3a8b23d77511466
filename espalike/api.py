"""The commands as Python functions: `train`, `evaluate` and `parametrize`, with the same settings and results."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from espalike.chem import Source, several
from espalike.devices import on_cpu

if TYPE_CHECKING:
    from espalike.chem import Entry
    from espalike.evaluation.result import Evaluation
    from espalike.export.ligands import Done
    from espalike.model import ForceFieldModel
    from espalike.system import MMSystem
    from espalike.training.run import TrainedRun


@on_cpu()
def train(
    experiment: str | None = None,
    out: str | os.PathLike | None = None,
    *,
    overrides: str | Sequence[str] = (),
    config_dir: str | os.PathLike | None = None,
    **settings: Any,
) -> TrainedRun:
    """Train a model, as `espalike train experiment=EXPERIMENT out=OUT …` does, and write it to a folder.

    Args:
        experiment: name of the experiment (`quickstart`, `finetune`, …); None: the default settings.
        out: the folder to write to; None: that of the settings.
        overrides: more settings in the syntax of the command line, e.g. `["optimizer.lr=1e-3"]`.
        config_dir: folder of more YAML files, as `--config-dir`.
        **settings: more settings as Python values. `forcefield="class2"` chooses from a group,
            `trainer={"max_epochs": 5}` or `**{"trainer.max_epochs": 5}` changes one setting of a group.

    Returns:
        The model file, its best epoch and its validation errors; `load()` gives the model.

    Raises:
        ValueError: for an unknown setting or choice, listing the known ones; when settings and data do not fit
            together, or the folder holds a finished run.

    Examples:
        >>> import tempfile
        >>> import espalike
        >>> quick = {"max_epochs": 1, "enable_progress_bar": False}
        >>> out = tempfile.mkdtemp()
        >>> run = espalike.train("quickstart", out=out, model="tiny", trainer=quick)  # doctest: +ELLIPSIS
        311 training and 67 validation entries ...
        >>> run.epoch
        0
        >>> type(run.load()).__name__
        'ForceFieldModel'
    """
    from espalike import settings as configuration
    from espalike.training.run import train as train_with

    named = {"experiment": experiment, "out": out}
    given = {name: value for name, value in named.items() if value is not None}
    arguments = [*configuration.overrides_of(given | settings), *_listed("overrides", overrides)]
    composed = configuration.compose("train", arguments, config_dir)
    return train_with(composed, configuration.chosen(arguments))


@on_cpu()
def evaluate(
    model: str | os.PathLike | Sequence[str | os.PathLike] = (),
    data: str | os.PathLike | Sequence[str | os.PathLike] = "sample",
    split: str | None = "test",
    baselines: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] = (),
    out: str | os.PathLike | None = None,
    *,
    overrides: str | Sequence[str] = (),
    **settings: Any,
) -> Evaluation:
    """Score models and other methods against QM, as `espalike evaluate` does, and write tables and a picture.

    Args:
        model: a model file or the name of a shipped model, or several.
        data: a store, a file, or `sample` (the embedded data), or several.
        split: `train`, `val` or `test`; None: everything.
        baselines: calculators (`mmff94`, `gfn2-xtb`, …), OpenFF force fields (`openff-2.2.1`), or `zero`; with
            settings: `{"calculator": "openmm-xml", "files": "ligand.xml", "label": "mine"}`.
        out: the folder to write to; None: that of the settings.
        overrides: more settings in the syntax of the command line.
        **settings: more settings as Python values: `level`, `resamples`, `worst`, `terms`, …; see `train`.

    Returns:
        Errors of every method [kcal/mol, kcal/mol/Å] with 95 % intervals over molecules, and the results behind them.

    Raises:
        ValueError: for an unknown setting, or when there is nothing to score or no such data.
        FileNotFoundError: for an unknown model.

    Examples:
        >>> import tempfile
        >>> import espalike
        >>> scores = espalike.evaluate(baselines=["mmff94"], out=tempfile.mkdtemp())  # doctest: +ELLIPSIS
        wrote .../table.csv, summary.json, parity.png
        >>> [(row.method, round(row.force_rmse.value)) for row in scores.rows]
        [('mmff94', 11)]
    """
    from espalike import settings as configuration
    from espalike.evaluation.run import evaluate as evaluate_with

    given: dict[str, Any] = {"models": _listed("model", model), "data.path": _listed("data", data)}
    given |= {"data.split": split, "baselines": _listed("baselines", baselines)} | ({} if out is None else {"out": out})
    arguments = [*configuration.overrides_of(given | settings), *_listed("overrides", overrides)]
    return evaluate_with(configuration.compose("evaluate", arguments))


@overload
def parametrize(  # type: ignore[overload-overlap] # a text is a sequence of texts
    molecules: Source,
    model: str | os.PathLike | ForceFieldModel = ...,
    charges: str | os.PathLike = ...,
    *,
    smiles: str | None = ...,
    out: str | os.PathLike | None = ...,
    format: str | Sequence[str] | None = ...,
    mixed: str | None = ...,
    torsions: str = ...,
    residue: str | None = ...,
    strict: bool = ...,
) -> MMSystem: ...


@overload
def parametrize(
    molecules: Iterable[Source],
    model: str | os.PathLike | ForceFieldModel = ...,
    charges: str | os.PathLike = ...,
    *,
    smiles: str | None = ...,
    out: str | os.PathLike | None = ...,
    format: str | Sequence[str] | None = ...,
    mixed: str | None = ...,
    torsions: str = ...,
    residue: str | None = ...,
    strict: bool = ...,
) -> list[MMSystem]: ...


@on_cpu()
def parametrize(
    molecules: Source | Iterable[Source],
    model: str | os.PathLike | ForceFieldModel = "espalike-1",
    charges: str | os.PathLike = "model",
    *,
    smiles: str | None = None,
    out: str | os.PathLike | None = None,
    format: str | Sequence[str] | None = None,
    mixed: str | None = None,
    torsions: str = "native",
    residue: str | None = None,
    strict: bool = False,
) -> MMSystem | list[MMSystem]:
    """Parameters of molecules; with `out`, also their files, as `espalike parametrize` writes them.

    One SMILES, file or molecule gives one system. A list gives a list: one system per molecule, in order, all molecules
    of a file included. Notes on a molecule (chemistry that was not in training, corrected charges) are Python warnings.

    Args:
        molecules: a SMILES, a file (SDF, MOL, MOL2, SMI, PDB, mmCIF), a molecule of espalike, RDKit or OpenFF, or a
            list of these. Coordinates that come with a molecule are kept in its files.
        model: name of a shipped model, a model file, or a model.
        charges: partial charges: `model`, `input` (those of the file or the OpenFF molecule), `am1bcc`, or a file of
            numbers; arrays are for `ForceFieldModel.parametrize`.
        smiles: bond orders and charges of the residues in a PDB or mmCIF that are not standard.
        out: a folder; None: no files are written.
        format: format or formats of the files, see `espalike.export.FORMATS`; None: `system`, where there is `out`.
        mixed: for `ffxml` of a force field without Lennard-Jones terms: `lj` lets it interact with other force fields
            by Lennard-Jones; None: mixed systems are refused.
        torsions: for `system`: `native`, or `custom`, which is faster on a CPU.
        residue: name of the residue in the files; None: the input's, or `LIG`.
        strict: whether molecules outside the model's domain (chemistry that was not in training) fail.

    Raises:
        ValueError: for a molecule that cannot be read or parametrized, listing all of them (the files of the others
            are written); before anything is computed, for a format that cannot express the force field, and for
            options of files without `out`.
        TypeError: for what is not a molecule, a model, or a source of charges.

    Examples:
        >>> import espalike
        >>> system = espalike.parametrize("CC(=O)O")
        >>> [bound.term.name for bound in system.terms]
        ['HarmonicBond', 'HarmonicAngle', 'PeriodicProper', 'PeriodicImproper', 'LennardJones', 'Coulomb']
        >>> [each.molecules[0].n_atoms for each in espalike.parametrize(["CCO", "O"])]
        [9, 3]
    """
    from espalike import export
    from espalike.export import ligands

    options = {"mixed": mixed, "residue": residue, "torsions": None if torsions == "native" else torsions}
    formats = _formats(out, format, {"format": format} | options)
    if not isinstance(charges, str | os.PathLike):
        raise TypeError(
            f"charges: expected 'model', 'input', 'am1bcc' or a file, got {type(charges).__name__}; "
            "ForceFieldModel.parametrize takes numbers"
        )
    loaded, name = _loaded(model)
    if refused := export.refusal(loaded.terms, formats):
        raise ValueError(refused)
    single, entries = _entries(molecules, smiles)
    read = ligands.existing(*(source for source, _ in entries), str(charges), name)
    output = ligands.Output(_folder(out), formats, mixed, torsions, residue, read)
    if formats:
        export.check_options(formats, mixed=mixed, torsions=torsions)
        output.folder.mkdir(parents=True, exist_ok=True)
    source = ligands.charge_source(str(charges), loaded, len(entries))
    done = list(ligands.parametrize(entries, loaded, name, source, output, strict))
    for remark in (f"{one.result.name}: {remark}" for one in done for remark in one.result.warnings):
        warnings.warn(remark, stacklevel=3)
    return _systems(done)[0] if single else _systems(done)


def _entries(molecules: Source | Iterable[Source], smiles: str | None) -> tuple[bool, list[tuple[str, Entry]]]:
    """Whether one molecule is asked for, and the molecules.

    Raises:
        ValueError: for a file of several molecules where one is asked for.
    """
    from espalike.export import ligands

    single, sources = several(molecules)
    entries = list(ligands.read(sources, smiles))
    if single and len(entries) != 1:
        raise ValueError(
            f"{molecules}: holds {len(entries)} molecules; give it in a list: parametrize([{molecules!r}])"
        )
    return single, entries


def _formats(
    out: str | os.PathLike | None, format: str | Sequence[str] | None, options: Mapping[str, Any]
) -> tuple[str, ...]:
    """Formats of the files to write; none without a folder.

    Raises:
        ValueError: for options of files where none are written, and for an unknown format.
    """
    if out is None:
        if given := [name for name, value in options.items() if value is not None]:
            raise ValueError(f"{given[0]}={options[given[0]]!r} needs out=FOLDER: without it, no files are written")
        return ()
    from espalike.export import formats_of

    return formats_of("system" if format is None else format)


def _folder(out: str | os.PathLike | None) -> Path:
    """The folder that files go to.

    Raises:
        ValueError: when its name is empty.
    """
    if out is not None and not os.fspath(out).strip():
        raise ValueError("out is empty: expected a folder, or None for no files; the present folder is '.'")
    return Path(out or ".")


def _systems(done: Sequence[Done]) -> list[MMSystem]:
    """Systems of all molecules.

    Raises:
        ValueError: listing those that failed.
    """
    if failed := [one for one in done if one.error is not None]:
        reasons = "\n".join(f"{one.result.name}: {one.result.reason}" for one in failed)
        raise ValueError(f"{len(failed)} of {len(done)} molecules failed:\n{reasons}" if len(done) > 1 else reasons)
    return [one.system for one in done if one.system is not None]


def _listed(name: str, given: Any) -> list[Any]:
    """One text, path or mapping, or several, as a list.

    Raises:
        TypeError: for anything else.
    """
    listed = (
        [given] if isinstance(given, str | os.PathLike | Mapping) or not isinstance(given, Iterable) else list(given)
    )
    if odd := [type(one).__name__ for one in listed if not isinstance(one, str | os.PathLike | Mapping)]:
        raise TypeError(f"{name}: expected a name or a path, or a list of them, got {odd[0]}")
    return listed


def _loaded(model: str | os.PathLike | ForceFieldModel) -> tuple[ForceFieldModel, str]:
    """The model in float64, and its name."""
    from espalike.model import ForceFieldModel, load

    if isinstance(model, ForceFieldModel):
        return model.in_float64(), type(model).__name__
    return load(model).double(), os.fspath(model)
