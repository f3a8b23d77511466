"""The scripts for tab completion, in the shells."""

import shutil
import subprocess

import pytest

from espalike.cli import main as cli

PRESS = """
source "$1"
line="$2"
COMP_LINE="$line" COMP_POINT=${#line} COMP_WORDS=($line)
[ "${line: -1}" = " " ] && COMP_WORDS+=("")
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
_espalike
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def complete(tmp_path, capsys):
    """What bash offers when the tab key is pressed at the end of a line."""
    assert cli.main(["completion", "bash"]) == 0
    script = tmp_path / "espalike.bash"
    script.write_text(capsys.readouterr().out)

    def press(line):
        command = ["bash", "-c", PRESS, "bash", str(script), line]
        return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())

    return press


def test_commands_options_and_settings_are_completed(complete):
    assert complete("espalike ") >= {*cli.JOBS, *cli.COMMANDS, "--version"}
    assert complete("espalike pa") == {"parametrize"}
    assert complete("espalike parametrize --fo") == {"--format"}
    assert complete("espalike evaluate mod") == {"model="}
    assert "experiment=quickstart" in complete("espalike train exp")
    assert complete("espalike completion ") >= {"bash", "zsh"}


def test_bash_gets_what_is_behind_the_equals_sign(complete):
    assert complete("espalike train conv=g") == {"gat", "gin"}
    assert "class2" in complete("espalike train forcefield=")


STUBS = """
compdef() {}; compset() {}; _files() {}
compadd() { [[ $1 == -S ]] && shift 2; shift; print -l -- "$@" }
source "$1"
words=(${=2}); [[ $2 == *" " ]] && words+=("")
CURRENT=$#words
_espalike
"""
"""In zsh: what `_espalike` offers at the end of a line, whatever is typed of the last word."""


def printed_script(shell, folder, capsys):
    assert cli.main(["completion", shell]) == 0
    path = folder / f"espalike.{shell}"
    path.write_text(capsys.readouterr().out)
    return path


@pytest.mark.skipif(not shutil.which("zsh"), reason="needs zsh")
def test_zsh_offers_commands_options_and_settings(tmp_path, capsys):
    script = printed_script("zsh", tmp_path, capsys)

    def offered(line):
        command = ["zsh", "-f", "-c", STUBS, "zsh", str(script), line]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert not done.stderr
        return set(done.stdout.split())

    assert offered("espalike pa") >= {*cli.JOBS, *cli.COMMANDS, "--version"}
    assert "--format" in offered("espalike parametrize --fo")
    assert {"out=", "conv=gat", "experiment=quickstart"} <= offered("espalike train ")


@pytest.mark.skipif(not shutil.which("fish"), reason="needs fish")
def test_fish_offers_commands_options_and_settings(tmp_path, capsys):
    script = printed_script("fish", tmp_path, capsys)

    def press(line):
        command = ["fish", "--no-config", "-c", f"source {script}; complete -C '{line}'"]
        return set(subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.split())

    assert press("espalike pa") == {"parametrize"}
    assert press("espalike parametrize --fo") == {"--format"}
    assert press("espalike train conv=g") == {"conv=gat", "conv=gin"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_has_a_line_in_every_script(shell, tmp_path, capsys):
    text = printed_script(shell, tmp_path, capsys).read_text()
    for name in (*cli.JOBS, *cli.COMMANDS):
        assert f"    {name})" in text or f"    case {name}\n" in text


def test_another_shell_is_bad_usage(capsys):
    assert cli.main(["completion", "tcsh"]) == 2
    assert "bash" in capsys.readouterr().err
