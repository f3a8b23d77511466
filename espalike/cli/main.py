"""The program `espalike`: finds the sub-command, runs it, turns errors into one line and an exit status.

Sub-command modules are imported only when chosen, so `espalike --help` imports neither torch nor hydra.
A *job* module has `HELP` and `run(cfg) -> int` and is configured by hydra (`configs/<name>.yaml`);
a *command* module has `HELP`, `add_arguments(parser)` and `run(args) -> int`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import traceback
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from espalike import settings
from espalike.cli.output import amount, encodable, unbroken
from espalike.extras import missing

JOBS = {
    "train": "train a force field: a graph network that predicts parameters from the molecular graph",
    "evaluate": "score models and baselines against QM: table, intervals, parity plot",
    "ingest": "turn a QM data set into a checked, hashed store",
    "landscape": "draw accuracy against cost for models, force fields, ML potentials and QM",
    "label": "compute energies and forces of molecules, by QM or another calculator, into a store",
    "molecules": "choose molecules to label, which cover the chemistry of their sources",
}
COMMANDS = {
    "parametrize": "write force-field files for ligands: OpenMM, SMIRNOFF, GROMACS, Amber, LAMMPS",
    "check": "test a force field on many molecules: parameters, symmetry, minima, dynamics, liquids",
    "bespoke": "fit a force field to one molecule, or to a few, with labels of a teacher",
    "models": "list the models that come with the program: functional form, domain, size, test errors",
    "info": "show what a model file or a store holds: configuration, units, provenance, hashes",
    "completion": "print a script by which bash, zsh or fish complete commands, options and settings",
}
GENERAL = {
    "--quiet": "print errors only, and no progress",
    "--verbose": "also print messages of libraries and, at the end, time and memory",
    "--debug": "show the traceback of an error",
}
"""Options of every command."""
ALIASES = {"evaluate": {"model": "models"}}
"""Settings by another name than in the YAML: `model` is also a config group, where hydra would look it up."""

QUIET = (
    "hydra.run.dir=.",
    "hydra.output_subdir=null",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
    "hydra.sweep.dir=${out}",
    "hydra.sweep.subdir=${hydra.job.num}",
    "+hydra.callbacks.table._target_=espalike.cli.sweep.Table",
)
"""Hydra's own settings: it makes no folders and no logs; a sweep's runs go to OUT/0, OUT/1, ..., its table to OUT."""

HYDRA_OPTIONS = (
    "--cfg",
    "--resolve",
    "--package",
    "--run",
    "--multirun",
    "--shell-completion",
    "--config-path",
    "--config-name",
    "--config-dir",
    "--info",
    "--hydra-help",
    "--version",
)
"""Options that hydra takes beside the settings."""

JOB_NOTES = """
settings:
  key=value ...        overrides, in hydra's syntax; `espalike {name} --cfg job` prints every setting with its value
  --config-dir DIR     add the YAML files in DIR to those of the program, which are used where names are equal
  --multirun           one run for each combination of comma-separated values, in OUT/0, OUT/1, ...; OUT/sweep.csv
                       ranks the runs. hydra/launcher=joblib or submitit_slurm runs several at the same time;
                       hydra/sweeper=optuna chooses values from earlier results: pip install 'espalike[sweep]'

general options: --quiet, --verbose, --debug; see `espalike --help`
exit status: 0 all done, 1 some inputs failed (the rest is written), 2 nothing could be done"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command and return the exit status: 0 all done, 1 some inputs failed, 2 nothing could be done."""
    if argv is not None:
        return _run(argv)
    rest = unbroken()
    status = _run(sys.argv[1:])
    if error := rest():
        print(f"error: the output cannot be written: {error.strerror}", file=sys.stderr)
    return max(status, 1) if error else status


def _run(argv: Sequence[str]) -> int:
    """Run one sub-command; returns its exit status."""
    encodable()
    arguments = list(argv)
    debug, quiet, verbose = ("--debug" in arguments, "--quiet" in arguments, "--verbose" in arguments)
    arguments = [a for a in arguments if a not in GENERAL]
    if arguments[:1] == ["help"] and len(arguments) > 1:
        arguments = [arguments[1], "--help"]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version", "version"):
        from importlib.metadata import version

        print(f"espalike {version('espalike')}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in JOBS and name not in COMMANDS:
        print(f"error: {_unknown(name)}", file=sys.stderr)
        return 2
    if name == "train" and quiet:
        rest.append("trainer.enable_progress_bar=false")
    quiet = quiet and not {"-h", "--help", "--cfg", "-c", "--info", "-i"} & set(rest)
    try:
        with amount(name, quiet, verbose):
            return _run_job(name, rest, debug) if name in JOBS else _run_command(name, rest, debug)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except Exception as error:  # the one place where errors become a line and a status
        return _report(error, debug)


def _overview() -> str:
    width = max(map(len, [*JOBS, *COMMANDS]))
    lines = ["usage: espalike COMMAND ...", "", "force fields at molecular-mechanics speed, learned from QM", ""]
    lines += ["jobs (settings as key=value):", *(f"  {name:{width}}  {text}" for name, text in JOBS.items()), ""]
    lines += ["commands:", *(f"  {name:{width}}  {text}" for name, text in COMMANDS.items()), ""]
    lines += ["options of every command:", *(f"  {name:{width}}  {text}" for name, text in GENERAL.items()), ""]
    lines += ["`espalike COMMAND --help` explains one, with an example; -V, --version"]
    return "\n".join(lines)


def _unknown(name: str) -> str:
    known = [*JOBS, *COMMANDS]
    return f"no command {name!r}; {settings.suggest(name, known)}commands: {', '.join(known)}"


def _report(error: BaseException, debug: bool) -> int:
    """Print what went wrong on stderr; the exit status is 2."""
    if debug:
        traceback.print_exception(error)
    error = _root(error)
    text = str(error)
    if isinstance(error, KeyError):
        text = str(error.args[0]) if error.args else "missing key"
    if isinstance(error, ModuleNotFoundError):
        text = missing(error)
    elif isinstance(error, FileExistsError | NotADirectoryError) and (file := _file_on(error.filename)):
        text = f"{file} is a file; expected a folder, or a name that nothing has"
    elif not isinstance(error, ValueError | OSError | KeyError | LookupError | ImportError):
        text = f"{type(error).__name__}: {text}" + ("" if debug else " (--debug shows where)")
    print(f"error: {text.strip() or type(error).__name__}", file=sys.stderr)
    return 2


def _file_on(path: str | bytes | int | None) -> Path | None:
    """The file that stands where a path needs a folder, if that is so."""
    if not isinstance(path, str):
        return None
    return next((part for part in (Path(path), *Path(path).parents) if part.exists() and not part.is_dir()), None)


def _root(error: BaseException) -> BaseException:
    """The cause that says something, below hydra's wrappers (known by name: hydra may not be imported)."""
    where = None
    while type(error).__name__ == "InstantiationException" and error.__cause__:
        where = re.search(r"full_key: (\S+)", str(error)) or re.search(r"target '(?:\w+\.)*(\w+)'", str(error))
        error = error.__cause__
    if where and isinstance(error, TypeError | AttributeError):
        return ValueError(f"{where[1]}: a setting has a wrong name or type ({error}); --cfg job prints every setting")
    # a badly typed setting is the user's input, not a fault of the program; the last is Lightning's
    inputs = {"HydraException", "OmegaConfBaseException", "MisconfigurationException", "YAMLError"}
    if any(base.__name__ in inputs for base in type(error).__mro__):
        key = getattr(error, "full_key", None)  # OmegaConf's errors have it
        if type(error).__name__ == "MissingMandatoryValue":
            return ValueError(f"{key}=… must be given")
        cause = f" ({str(error.__cause__).splitlines()[0]})" if error.__cause__ else ""
        return ValueError((f"{key}: {str(error).splitlines()[0]}" if key else str(error)) + cause)
    return error


def _at_home(argument: str) -> str:
    """An argument with the user's folder for the ~ of --option=~/path, which shells leave there."""
    option, equals, value = argument.partition("=")
    return option + equals + settings.at_home(value) if option.startswith("--") else argument


def _run_command(name: str, arguments: Sequence[str], debug: bool) -> int:
    module = importlib.import_module(f"espalike.cli.{name}")
    parser = argparse.ArgumentParser(
        prog=f"espalike {name}", description=module.HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    try:
        args = parser.parse_args([_at_home(argument) for argument in arguments])
    except SystemExit as stop:  # argparse has printed help (0) or a usage error (2)
        return int(stop.code or 0)
    args.debug = debug
    return module.run(args)


def _run_job(name: str, arguments: Sequence[str], debug: bool) -> int:
    module = importlib.import_module(f"espalike.cli.{name}")
    if any(a in ("-h", "--help") for a in arguments):
        print(module.HELP.strip("\n"))
        print(JOB_NOTES.format(name=name))
        return 0
    if any(a.startswith("--exp") for a in arguments):
        raise ValueError("--experimental-rerun unpickles a file and is refused; repeat the overrides instead")
    for option in (a.partition("=")[0] for a in arguments if a.startswith("--")):
        if not any(known.startswith(option) for known in HYDRA_OPTIONS):
            raise ValueError(
                f"{name} has no option {option}; settings are given as key=value (`espalike {name} --help` lists them)"
            )
    statuses: list[int] = []
    try:
        _compose(name, arguments, module, statuses, debug)
    except SystemExit as stop:  # hydra's own usage errors; --cfg, --info; the end of a sweep
        return stop.code if isinstance(stop.code, int) else 2 if stop.code else 0
    return max(statuses, default=0)


def _compose(name: str, arguments: Sequence[str], module: ModuleType, statuses: list[int], debug: bool) -> None:
    """Compose `configs/<name>.yaml` with the overrides and call the module's `run`, with `--multirun` several times.

    Hydra itself writes nothing, except `multirun.yaml` (the sweep) into the sweep's `out`. The runs of a sweep may take
    place in other processes, so that results are passed in files. A sweeper minimises the module's `objective(out)`.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import OmegaConf, open_dict

    from espalike.cli.sweep import note

    run, objective = module.run, getattr(module, "objective", None)

    def job(cfg) -> float | None:
        state = HydraConfig.get()
        sweep = state.mode == RunMode.MULTIRUN
        typed = OmegaConf.to_container(state.overrides.task, resolve=False)  # `${...}` as typed
        assert isinstance(typed, list)
        if sweep:
            with open_dict(cfg):
                cfg.out = os.path.join(state.sweep.dir, state.sweep.subdir)
            print(f"run {state.job.num}: {state.job.override_dirname or 'as configured'} -> {cfg.out}")
        try:
            settings.check_complete(name, cfg, typed)
            status = run(cfg)
        except Exception as error:  # reported before hydra wraps it; a failed run does not end a sweep
            status = _report(error, debug)
        statuses.append(status)
        if not sweep:
            return None
        value = objective(cfg.out) if objective and status == 0 else None
        note(cfg.out, state.job.num, typed, status, value)
        return value

    given = {a.lstrip("+~").partition("=")[0] for a in arguments}
    quiet = [setting for setting in (f"hydra.job.name={name}", *QUIET) if setting.partition("=")[0] not in given]
    # hydra wants its options before the overrides; people type them anywhere
    overrides = [a for a in arguments if not a.startswith("-") and ("=" in a or a.startswith("~"))]
    options = [a for a in arguments if a not in overrides]
    aliases = ALIASES.get(name, {})
    parts = [a.partition("=") for a in overrides]
    overrides = [aliases.get(key, key) + equals + settings.at_home(value) for key, equals, value in parts]
    try:
        with _as_program(f"espalike {name}", [*options, *quiet, *overrides]):
            hydra.main(config_path=f"pkg://{settings.CONFIGS}", config_name=name, version_base="1.3")(job)()
    except (HydraException, ValueError) as error:  # errors of the job itself are reported above
        raise _explained(error, name, options, overrides) from error


def _explained(error: Exception, name: str, options: Sequence[str], overrides: Sequence[str]) -> ValueError:
    """Hydra's error in words that say what would work."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("--config-name", "-cn", default=name)
    chosen = parser.parse_known_args(options)[0]
    return ValueError(settings.explain(error, chosen.config_name, overrides, chosen.config_dir))


@contextmanager
def _as_program(name: str, arguments: Sequence[str]):
    """Let hydra see these arguments as the program's own, and raise its errors instead of printing them."""
    kept = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = [name, *arguments], "1"
    try:
        yield
    finally:
        sys.argv = kept[0]
        if kept[1] is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = kept[1]


if __name__ == "__main__":
    sys.exit(main())
