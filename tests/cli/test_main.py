"""The dispatcher: what users type, the messages, and the exit status."""

import io
import re
import subprocess
import sys
import types
from importlib import resources
from pathlib import Path

import pytest
import yaml

from espalike import setting_types, settings
from espalike.cli import main as cli

CONFIG = "defaults:\n  - _self_\n  - shape: round\nout: ???\nsteps: 1\nfail: ''\n"


@pytest.fixture
def job(monkeypatch, tmp_path):
    """A stand-in for `espalike train` with its own YAML; returns the configurations it was run with."""
    seen = []

    def run(cfg):
        seen.append({"out": cfg.out, "steps": cfg.steps, "side": cfg.shape.side})
        if cfg.fail == "value":
            raise ValueError("the store has no molecules")
        if cfg.fail == "bug":
            raise TypeError("a fault of the program")
        return 1 if cfg.fail == "some" else 0

    (tmp_path / "conf" / "shape").mkdir(parents=True)
    (tmp_path / "conf" / "job.yaml").write_text(CONFIG)
    (tmp_path / "conf" / "shape" / "round.yaml").write_text("side: 0\n")
    (tmp_path / "conf" / "shape" / "square.yaml").write_text("side: 4\n")
    module = types.ModuleType("espalike.cli.train")
    module.HELP, module.run = "Train.\n\nexample: espalike train out=here", run
    monkeypatch.setitem(sys.modules, "espalike.cli.train", module)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        return cli.main(["train", "--config-dir", "conf", "--config-name", "job", *arguments])

    call.seen = seen
    return call


def test_overview_names_every_command_and_imports_nothing_heavy():
    code = (
        "import sys; from espalike.cli.main import main; status = main(['--help']); "
        "print(sorted({'torch', 'hydra', 'rdkit', 'openmm', 'numpy'} & set(sys.modules)), status)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().endswith("[] 0")
    for name in [*cli.JOBS, *cli.COMMANDS]:
        assert f"\n  {name} " in out


def test_characters_that_stdout_cannot_encode_end_no_command(monkeypatch):
    """On a machine whose locale is ASCII, `espalike models` and a training ended at the first Å."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert cli.main(["label", "--help"]) == 0
    sys.stdout.flush()
    assert rb"kcal/mol/\xc5" in written.getvalue()


@pytest.mark.parametrize(
    ("arguments", "status"), [(["--help"], 0), (["models"], 0), (["parametrize", "CCO", "CC(", "--out", "out"], 1)]
)
def test_a_command_goes_on_when_the_reader_of_its_output_has_ended(arguments, status, tmp_path):
    """`espalike models | head` ended with the status of failed inputs, as tables do that rich prints."""
    command = [sys.executable, "-m", "espalike", *arguments]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        process.stdout.close()
        assert process.wait() == status
    assert len(list(tmp_path.glob("out/*.system.xml"))) == status


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["parametrize", "CCO", "--out", "out"]])
def test_a_command_goes_on_when_its_output_cannot_be_written(arguments, tmp_path):
    """`espalike --help >/dev/full` printed a traceback, and `parametrize` had the exit status 120 of Python."""
    command = [sys.executable, "-m", "espalike", *arguments]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "error: the output cannot be written: No space left on device\n")
    assert len(list(tmp_path.glob("out/*.system.xml"))) == arguments.count("CCO")


def test_no_command_is_bad_usage(capsys):
    assert cli.main([]) == 2
    assert "usage: espalike" in capsys.readouterr().out


def test_unknown_command_suggests_the_nearest(capsys):
    assert cli.main(["parametrise", "CCO"]) == 2
    assert "did you mean 'parametrize'?" in capsys.readouterr().err


def test_overrides_and_group_choices_reach_the_job(job):
    assert job("out=a", "shape=square", "steps=3") == 0
    assert job.seen == [{"out": "a", "steps": 3, "side": 4}]


def test_a_run_leaves_no_folders_of_hydra(job, tmp_path):
    job("out=a")
    assert [p.name for p in tmp_path.iterdir()] == ["conf"]


def test_options_may_follow_overrides_and_multirun_gives_each_run_its_own_out(job):
    assert job("out=a", "steps=1,2", "--multirun") == 0
    assert job.seen == [{"out": "a/0", "steps": 1, "side": 0}, {"out": "a/1", "steps": 2, "side": 0}]


def test_one_failed_run_does_not_end_the_sweep(job, capsys):
    assert job("out=a", "fail=value,''", "-m") == 1
    assert len(job.seen) == 2
    assert capsys.readouterr().err == "error: the store has no molecules\n"


def test_status_of_the_job_is_the_status_of_the_program(job):
    assert job("out=a", "fail=some") == 1


def test_expected_errors_are_one_line(job, capsys):
    assert job("out=a", "fail=value") == 2
    assert capsys.readouterr().err == "error: the store has no molecules\n"


def test_unexpected_errors_name_their_type_and_debug_shows_the_traceback(job, capsys):
    assert job("out=a", "fail=bug") == 2
    assert capsys.readouterr().err == "error: TypeError: a fault of the program (--debug shows where)\n"
    assert job("out=a", "fail=bug", "--debug") == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("error: TypeError: a fault of the program\n")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("stepz=2", "stepz: no such setting"),
        ("shape=ruond", "shape=ruond: did you mean 'round'? choices of shape: round, square"),
        ("+shape=square", "write shape=NAME once, without +"),
        ("steps=[", "argument 'steps=[': a value with spaces, commas, brackets or = must be quoted"),
        ("steps=C(=O)O", """in a shell, write 'steps="C(=O)O"'"""),
        ("steps", "argument 'steps': expected key=value; --help has examples"),
        ("--nonsense", "train has no option --nonsense; settings are given as key=value"),
        ("--out=runs/x", "train has no option --out; settings are given as key=value"),
        ("--experimental-rerun=x.pickle", "unpickles"),
        ("steps=1,2", """in a shell, write 'steps="1,2"'; for one run per value: --multirun"""),
        ("shape.side=1", "train needs out=…"),
    ],
)
def test_bad_settings_are_status_2_with_a_reason(job, capsys, argument, message):
    assert job(argument) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("command", "choice"),
    [
        *(
            ("train", group)
            for group in ["conv", "data", "forcefield", "model", "objective", "optimizer", "schedule", "trainer"]
        ),
        ("train", "experiment"),
        ("train", "+term@forcefield.term.more"),
        *(
            ("label", group)
            for group in ("calculator", "sampler", "calculator@sampler.calculator", "compute", "reader")
        ),
        ("ingest", "reader"),
        ("evaluate", "reader"),
    ],
)
def test_an_unknown_choice_is_status_2_and_lists_the_known_ones(capsys, command, choice):
    folder = resources.files("espalike.configs") / choice.lstrip("+").partition("@")[0]
    known = sorted(path.name.removesuffix(".yaml") for path in folder.iterdir())
    assert cli.main([command, f"{choice}=typo", "out=here"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {choice.lstrip('+')}=typo: ")
    assert err.rstrip("\n").partition(";")[0].endswith(f": {', '.join(known)}")
    assert cli.main([command, f"{choice}={known[0]}x", "out=here"]) == 2
    assert f"did you mean '{known[0]}'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "added", "named"),
    [
        ("train", "+unknown=1", "unknown: train has no such setting"),
        ("train", "++data.foo=1", "data.foo: train has no such setting; nearest: data."),
        ("train", "+model.foo=1", "model.foo: train has no such setting; nearest: model"),
        ("train", "+term@odd=coulomb", "term@odd: train has no default"),
        ("evaluate", "+data.splt=test", "data.splt: evaluate has no such setting; nearest: data.split"),
        ("label", "+optimizer=adam", "optimizer: label has no default"),
        ("ingest", "+licences=x", "licences: ingest has no such setting; nearest: licence"),
        ("molecules", "+limits=3", "limits: molecules has no such setting"),
        ("landscape", "+geometry=3", "geometry: landscape has no such setting; nearest: geometries"),
    ],
)
def test_an_added_setting_that_nothing_reads_is_refused_by_name(capsys, command, added, named):
    assert cli.main([command, added, "out=here"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {named}")
    assert "nevertheless" not in err


@pytest.mark.parametrize(
    ("job", "added"),
    [
        ("train", ["+objective.kinds={relaxed:{energy:3,forces:0.3}}"]),
        ("train", ["+objective.sources.my-set.energy=0.1"]),
        ("train", ["+objective.schedules.forces=[[0,0.1],[0.5,1]]"]),
        ("train", ["+trainer.deterministic=true"]),
        ("train", ["+term@forcefield.term.more=urey_bradley"]),
        ("train", ["+mine=0.003", "optimizer.lr=${mine}"]),
        ("train", ["++seed=3"]),
        ("label", ["input=CO", "out=here", "sampler=mixed", "+sampler@sampler.parts.scan=scan"]),
    ],
)
def test_an_added_setting_that_is_read_is_taken(job, added):
    assert settings.compose(job, added)


def test_the_unknown_choice_of_two_of_a_group_is_named(capsys):
    choices = ["calculator=mmff94", "calculator@sampler.calculator=mmf"]
    assert cli.main(["label", "input=CCO", "out=here", *choices]) == 2
    assert capsys.readouterr().err.startswith("error: calculator@sampler.calculator=mmf: ")


def test_an_unknown_setting_lists_near_ones(capsys):
    for typed, near in (("lr=1", "optimizer.lr"), ("trainer.max_epoch=1", "trainer.max_epochs"), ("sed=1", "seed")):
        assert cli.main(["train", typed]) == 2
        assert f"train has no such setting; nearest: {near}" in capsys.readouterr().err
    assert cli.main(["train", "optimizer=adamw", "optimizer.weight_deca=1"]) == 2
    assert "nearest: optimizer.weight_decay" in capsys.readouterr().err


def test_help_of_a_job_has_its_example(job, capsys):
    assert job("--help") == 0
    out = capsys.readouterr().out
    assert "espalike train out=here" in out
    assert "--multirun" in out


def test_missing_extra_says_what_to_install(monkeypatch, capsys):
    module = types.ModuleType("espalike.cli.models")
    module.HELP, module.add_arguments = "x", lambda parser: None

    def run(args):
        raise ModuleNotFoundError("No module named 'tblite'", name="tblite")

    module.run = run
    monkeypatch.setitem(sys.modules, "espalike.cli.models", module)
    assert cli.main(["models"]) == 2
    assert "pip install 'espalike[qm]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("reader.units=0.5", "reader.units=0.5: expected text"),
        ("reader.energies=[1]", "reader.energies=[1]: expected text"),
        ("filters.elements=C", "filters.elements=C: expected a list"),
        ("filters.force_ceiling=true", "filters.force_ceiling=True: expected a number or a whole number"),
        ("filters.connectivity=5", "filters.connectivity=5: expected true or false"),
        ("against=5", "against=5: expected a list"),
        ("fractions.train=${oc.env:HOME}", "fractions.train="),
        ("filters.net_charges=${oc.env:HOME}", "filters.net_charges="),
        ("filters.net_charges=[0,x]", "filters.net_charges[1]=x: expected a whole number"),
        ("filters.elements=[H,1]", "filters.elements[1]=1: expected text"),
        ("filters.rmsd=nan", "filters.rmsd=nan: expected a number"),
        ("filters.duplicates=${nothing}", "filters.duplicates: Interpolation key 'nothing' not found"),
        ("against=[1]", "against[0]=1: expected text"),
        ("origin=[x]", "origin=['x']: expected text"),
        ("licence={a:1}", "licence={'a': 1}: expected text"),
        ("fractions.train=sdf", "fractions.train=sdf: expected a number"),
        ("force=3", "force=3: expected true or false"),
        ("shard=true", "shard=True: expected a number"),
        ("shard=null", "shard=null: expected a number"),
        ("force=null", "force=null: expected true or false"),
        ("fractions=null", "fractions=null: expected a mapping"),
        ("fractions.train=null", "fractions.train=null: expected a number"),
        ("fractions={train:null}", "fractions.train=null: expected a number"),
        ("filters=null", "filters=null: expected a mapping"),
        ("out=null", "out=null: expected the name of a folder"),
        ("reader=nan", "among out=s reader=nan"),
        ("filters=3", "filters=3: expected a mapping"),
        ("out=nan", "out=nan: expected the name of a folder"),
        ("+filters.nothing=3", "filters: a setting has a wrong name or type"),
    ],
)
def test_a_setting_of_another_type_is_named(tmp_path, capsys, monkeypatch, argument, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.h5").write_bytes(b"")
    given = [f"reader={'sdf' if 'nothing' in argument else 'hdf5'}", "reader.path=a.h5", "reader.level=x"]
    given = [] if argument == "reader=nan" else given
    status = cli.main(["ingest", *given, "out=s", argument])
    assert status == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("job", "argument", "message"),
    [
        ("molecules", "input=7", "input=7: expected a list or text"),
        ("molecules", "input={a:1}", "input={'a': 1}: expected a list or text"),
        ("molecules", "split=true", "split=True: expected a list or text"),
        ("molecules", "limit=${oc.env:HOME}", "limit=/"),
        ("molecules", "most=[1]", "most=[1]: expected a whole number"),
        ("molecules", "limit=-1", "limit=-1: expected a number, 1 or more"),
        ("molecules", "seed=1.5", "seed=1.5: expected a whole number"),
        ("label", "chunk=x", "chunk=x: expected a whole number"),
        ("label", "retry=no", "retry=no: expected true or false"),
        ("molecules", "extend=no", "extend=no: expected true or false"),
        ("ingest", "force=no", "force=no: expected true or false"),
        ("evaluate", "terms=off", "terms=off: expected true or false"),
        ("train", "overwrite=no", "overwrite=no: expected true or false"),
        ("train", "fold=off", "fold=off: expected true or false"),
        ("train", "data.held_out=no", "data.held_out=no: expected true or false"),
        ("train", "data.bucketed=0", "data.bucketed=0: expected true or false"),
        ("train", "model.width=wide", "model.width=wide: expected a number"),
        ("train", "data.conformers=all", "data.conformers=all: expected a number"),
        ("label", "disagreement=x", "disagreement=x: expected a number"),
        ("label", "splits=[a.csv]", "splits=['a.csv']: expected text"),
        ("evaluate", "models=[1]", "models[0]=1: expected text"),
        ("evaluate", "data.path=[[a]]", "data.path[0]=['a']: expected text"),
        ("evaluate", "baselines=[mmff94,5]", "baselines[1]=5: expected a mapping or text"),
        ("landscape", "water=[a]", "water[0]=a: expected a whole number"),
        ("train", "ema=x", "ema=x: expected a number"),
        ("train", "data.stores=[1]", "data.stores[0]=1: expected text"),
    ],
)
def test_a_job_s_own_setting_of_another_type_is_named(job, argument, message):
    out = "out=o.smi" if job == "molecules" else "out=o"
    inputs = ["input=x"] if job in ("molecules", "label") and not argument.startswith("input") else []
    with pytest.raises(ValueError, match=re.escape(message)):
        settings.compose(job, [out, *inputs, argument])


def test_a_damaged_yaml_is_named_with_its_line(tmp_path, capsys):
    (tmp_path / "reader").mkdir()
    (tmp_path / "reader" / "own.yaml").write_text("defaults: [arrays]\nlevel: {\n")
    assert (
        cli.main(["ingest", "--config-dir", str(tmp_path), "reader=own", "reader.path=x", f"out={tmp_path / 's'}"]) == 2
    )
    message = capsys.readouterr().err
    assert "own.yaml" in message
    assert "line 3" in message
    assert "--debug" not in message


def test_checks_of_types_print_nothing(capfd):
    """A schedule is a function, which hydra would complain of."""
    settings.compose("train", ["out=o", "schedule=warmup_cosine"])
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ValueError, match=r"schedule\.warmup=x: expected a number"):
        settings.compose("train", ["out=o", "schedule.warmup=x"])


def test_settings_as_they_are_have_the_types_that_classes_declare():
    """All YAML files."""
    folder = resources.files("espalike.configs")
    paths = [path for group in folder.iterdir() if group.is_dir() for path in group.iterdir()]
    paths = [path for path in (*folder.iterdir(), *paths) if path.name.endswith(".yaml")]
    assert len(paths) > 80
    for path in paths:
        setting_types.check_types(f"{path.name}: ", yaml.safe_load(path.read_text()))


def test_quiet_prints_errors_only(job, monkeypatch, capsys):
    run = sys.modules["espalike.cli.train"].run
    monkeypatch.setattr(sys.modules["espalike.cli.train"], "run", lambda cfg: print("wrote a file") or run(cfg))
    trainer = "+trainer.enable_progress_bar=true"  # the stand-in has no such setting; the last one holds
    assert job("out=a", trainer) == 0
    assert "wrote a file" in capsys.readouterr().out
    assert job("out=a", trainer, "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert job("out=a", trainer, "--quiet", "fail=value") == 2
    assert capsys.readouterr() == ("", "error: the store has no molecules\n")


def test_quiet_hides_no_answer(job, capsys):
    assert cli.main(["models", "--quiet"]) == 0
    assert cli.main(["train", "--help", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "functional form" in out
    assert "example: espalike train out=here" in out


def test_quiet_draws_no_progress(monkeypatch):
    from rich.console import Console

    from espalike.cli.output import amount

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert Console(stderr=True).is_terminal
    with amount("train", quiet=True):
        assert not Console(stderr=True).is_terminal
    assert Console(stderr=True).is_terminal


def test_verbose_logs_and_measures(job, monkeypatch, capsys):
    import logging

    def run(cfg):
        logging.getLogger("a.library").info("a message")
        return 0

    monkeypatch.setattr(sys.modules["espalike.cli.train"], "run", run)
    assert job("out=a") == 0
    assert capsys.readouterr().err == ""
    assert job("out=a", "--verbose") == 0
    error = capsys.readouterr().err
    assert "a.library: a message" in error
    assert "espalike train: " in error
    assert " s of the processor, at most " in error
    logging.getLogger("a.library").info("a message")
    assert capsys.readouterr().err == ""
