"""`espalike completion`: a script by which a shell completes commands, options, and settings."""

from __future__ import annotations

import argparse
import importlib
from importlib.resources import files

HELP = """
Print a script that completes commands, options and settings when you press the tab key.

  espalike completion bash > ~/.local/share/bash-completion/completions/espalike
  espalike completion zsh >> ~/.zshrc
  espalike completion fish > ~/.config/fish/completions/espalike.fish

A new shell reads it. Print it again after an update.
"""

BASH = """\
_espalike() {{
  local line="${{COMP_LINE:0:COMP_POINT}}" words
  local current="${{line##* }}"
  case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  [ "$COMP_CWORD" -le 1 ] && words="{commands}"
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  # bash breaks words at =, and expects what is behind it
  case "$current" in *=*) COMPREPLY=("${{COMPREPLY[@]#*=}}") ;; esac
  return 0
}}
complete -o bashdefault -o default -o nospace -F _espalike espalike
"""

ZSH = """\
_espalike() {{
  local choices
  case "${{words[2]}}" in
{cases}
  esac
  (( CURRENT == 2 )) && choices="{commands}"
  compadd -S '' -- ${{(M)=choices:#*=}} # names of settings, whose value follows
  compadd -- ${{=choices:#*=}}
  compset -P '*='
  _files
}}
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}
compdef _espalike espalike
"""

FISH = """\
function __espalike
  set -l typed (commandline -opc)
  switch "$typed[2]"
    case ""
      set words "{commands}"
{cases}
  end
  string split " " -- $words
end
complete -c espalike -a "(__espalike)"
"""

SHELLS = {
    "bash": (BASH, '    {name}) words="{words}" ;;'),
    "zsh": (ZSH, '    {name}) choices="{words}" ;;'),
    "fish": (FISH, '    case {name}\n      set words "{words}"'),
}
"""The script of each shell, and its line for the words of a command."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", choices=tuple(SHELLS), help="the shell that reads the script")


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    from espalike.cli.main import COMMANDS, GENERAL, JOBS

    words = {name: _settings(name) for name in JOBS} | {name: _options(name) for name in COMMANDS}
    script, line = SHELLS[args.shell]
    cases = [line.format(name=name, words=" ".join([*found, *GENERAL, "--help"])) for name, found in words.items()]
    print(script.format(cases="\n".join(cases), commands=" ".join([*words, "--help", "--version"])), end="")
    return 0


def _options(name: str) -> list[str]:
    """Options of a command, and the choices of its arguments."""
    parser = argparse.ArgumentParser(add_help=False)
    importlib.import_module(f"espalike.cli.{name}").add_arguments(parser)
    options = [max(action.option_strings, key=len) for action in parser._actions if action.option_strings]
    return options + [str(c) for action in parser._actions if not action.option_strings for c in action.choices or ()]


def _settings(name: str) -> list[str]:
    """Settings of a job: `key=`, and `group=choice` for each group of its defaults."""
    import yaml

    from espalike.cli.main import ALIASES

    configs = files("espalike.configs")
    settings = yaml.safe_load((configs / f"{name}.yaml").read_text())
    typed = {key: alias for alias, key in ALIASES.get(name, {}).items()}
    words = [f"{typed.get(key, key)}=" for key in settings if key not in ("defaults", "hydra")]
    groups = [
        str(key).partition("@")[0] for default in settings["defaults"] if isinstance(default, dict) for key in default
    ]
    for group in dict.fromkeys(groups):
        names = sorted(path.name for path in (configs / group).iterdir())
        words += [f"{group}={choice.removesuffix('.yaml')}" for choice in names if choice.endswith(".yaml")]
    return [*words, "--cfg", "--config-dir", "--multirun"]
