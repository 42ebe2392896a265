"""docs/cli.md: every command with its help, as typer knows it.

python -m orchestrator.cli.reference writes it anew.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from orchestrator.cli.main import app

_INTRODUCTION = """# Command line

Made by `python -m orchestrator.cli.reference`; `coe COMMAND --help` shows the same.

Flags come before environment variables, those before `coe.yaml` ([config.md](config.md)). Commands that ask a running
service find it by `--host` and `--port` and take their key from `COE_API_KEY`. Answers go to standard output, all
else to standard error. A command that could not do its work ends with 1, one that was called wrongly with 2.

Completion for bash, zsh, fish and PowerShell: `coe --install-completion`, then open a new shell.
"""


def page() -> str:
    """The whole of docs/cli.md."""
    return "\n".join([_INTRODUCTION, *_commands(get_command(app), "coe")]).rstrip() + "\n"


def _commands(command: Any, path: str) -> Iterator[str]:
    inner = getattr(command, "commands", {})
    runs_alone = not inner or getattr(command, "invoke_without_command", False)
    if path != "coe":
        yield f"## `{path}`\n"
        yield f"{_sentences(command.help)}\n"
        if runs_alone:
            yield from _parameters(command, path)
    for name, below in inner.items():
        yield from _commands(below, f"{path} {name}")


def _parameters(command: Any, path: str) -> Iterator[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and one.name != "help"]
    usage = " ".join([path, *("[OPTIONS]" for _ in options[:1]), *(_shown(one) for one in arguments)])
    yield f"```\n{usage}\n```\n"
    rows = [f"| `{_shown(one)}` | | {_cell(one.help)} |" for one in arguments]
    rows += [f"| {_flags(one)} | {_default(one)} | {_cell(one.help)} |" for one in options]
    if rows:
        yield "\n".join(["| | default | |", "|---|---|---|", *rows]) + "\n"


def _shown(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    several = "..." if argument.nargs == -1 else ""
    return f"{name}{several}" if argument.required else f"[{name}{several}]"


def _flags(option: Any) -> str:
    return ", ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts))


def _default(option: Any) -> str:
    value = option.default
    if option.required:
        return "required"
    if value is None or value is False or callable(value) or type(value).__name__ == "Sentinel" or value == ():
        return ""
    return f"`{option.opts[0]}`" if value is True else f"`{value}`"


def _sentences(text: str | None) -> str:
    return "\n\n".join(" ".join(part.split()) for part in (text or "").split("\n\n"))


def _cell(text: str | None) -> str:
    return _sentences(text).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    made = Path(__file__).parents[2] / "docs" / "cli.md"
    made.write_text(page(), encoding="utf-8")
    print(made)
