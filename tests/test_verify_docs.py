"""docs/reproducibility.md: the workflows are YAML, and every command in it exists with the options that it is given."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "reproducibility.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def workflows() -> list[dict[str, Any]]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    return [yaml.safe_load(block) for block in blocks("yaml")]


def problem_of(line: str) -> str:
    """What is wrong with a command line of synthkit's; empty if nothing is."""
    from typer.main import get_command

    from synthkit.cli import app

    command: Any = get_command(app)
    words = shlex.split(line, comments=True)[1:]
    while hasattr(command, "commands"):
        if not words or words[0] not in command.commands:
            return f"no command {words[:1]}"
        command = command.commands[words.pop(0)]
    known = {option: parameter for parameter in command.params for option in parameter.opts}
    values = iter(words)
    for word in values:
        name, equals, _ = word.partition("=")
        if name.startswith("-"):
            if name not in known:
                return f"no option {name}"
            if not known[name].is_flag and not equals and next(values, None) is None:
                return f"{name} lacks its value"
    return ""


def lines_of_workflows() -> Iterator[str]:
    github, gitlab = workflows()
    for job in github["jobs"].values():
        yield from (step["run"] for step in job["steps"] if "run" in step)
    for job in gitlab.values():
        if isinstance(job, dict):
            yield from job["script"]


def test_both_workflows_lock_verify_and_check() -> None:
    lines = [line for line in lines_of_workflows() if not line.startswith("pip install -c constraints.txt ")]
    assert all(line.startswith("synthkit ") for line in lines)
    for wanted in ("synthkit lock --check", "synthkit verify mystudy --sample 3", "synthkit plugins check"):
        assert sum(line.startswith(wanted) for line in lines) == 2
    assert [problem_of(line) for line in lines] == [""] * 6


def test_every_command_of_the_page_exists_with_its_options() -> None:
    shown = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("synthkit ")]
    inline = [code for code in re.findall(r"`(synthkit [^`]+)`", PAGE) if not code.startswith("synthkit.")]
    assert len(shown) >= 6 and len(inline) >= 1
    assert {line: problem for line in (*shown, *inline) if (problem := problem_of(line))} == {}


def test_what_is_wrong_is_seen() -> None:
    assert problem_of("synthkit verfy x") and problem_of("synthkit verify x --smaple 3")
    assert problem_of("synthkit verify x --sample") == "--sample lacks its value"
    assert problem_of("synthkit plugins chek x")


def test_options_named_in_the_text_are_options_of_the_commands() -> None:
    from typer.main import get_command

    from synthkit.cli import app

    commands: Any = get_command(app)
    known = {o for name in ("verify", "lock") for p in commands.commands[name].params for o in p.opts}
    text = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL).replace("pip freeze --exclude-editable", "")
    assert set(re.findall(r"--[a-z][a-z-]+", text)) <= known
