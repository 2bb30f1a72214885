"""Writes what the documentation takes from the code: plugin table, hooks, checks, exit codes, help texts.

    python docs/generate.py            # rewrite README.md and docs/ in place
    python docs/generate.py --check    # only say what is out of date; exit status 1 if anything is

A generated block stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``; docs/commands.md is generated as a
whole. The first-party plugins have to be installed. ``tests/test_docs.py`` makes sure that nothing is out of date.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from synthkit import errors
from synthkit.contract import Declaration, MetricDeclaration, describe_params
from synthkit.errors import ExitCode, SynthkitError
from synthkit.judging import audit_scores as audit_seam
from synthkit.judging import policy as audit_policy
from synthkit.judging.audit_tables import TABLES
from synthkit.registry import hookspecs
from synthkit.registry.registry import discover

ROOT = Path(__file__).parents[1]
WIDTH = 80


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; reStructuredText of docstrings in it becomes Markdown."""
    cells = [[_markdown(str(cell)) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(header), ["---"] * len(header), *cells])


def _markdown(text: str) -> str:
    return re.sub(r":\w+:(?=`)", "", text).replace("``", "`").replace("|", "\\|")


def own_declarations() -> list[Declaration]:
    """What the plugins in ``plugins/`` declare, by kind and name; what several of them share declares nothing."""
    projects = [tomllib.loads(file.read_text())["project"] for file in ROOT.glob("plugins/*/*/pyproject.toml")]
    names = {project["name"] for project in projects if "entry-points" in project}
    found = [d for d in discover().declarations.values() if d.distribution in names]
    missing = names - {d.distribution for d in found}
    if missing:
        raise LookupError(f"not installed: {', '.join(sorted(missing))}")
    order = ("generator", "segmenter", "metric")
    return sorted(found, key=lambda d: (order.index(d.kind), d.name))


def plugins() -> str:
    rows = [(d.kind, f"`{d.name}`", d.summary, f"`{d.distribution}`") for d in own_declarations()]
    return table(("kind", "name", "what it does", "package"), rows)


def hooks() -> str:
    rows = []
    for name, function in sorted(vars(hookspecs).items()):
        if hasattr(function, "synthkit_spec"):
            signature = re.sub(r"\w+\.", "", str(inspect.signature(function, eval_str=True)))
            rows.append((f"`{name}{signature}`", " ".join((inspect.getdoc(function) or "").split())))
    return table(("hook", "what it answers"), rows)


def checks() -> str:
    from synthkit.testing.checks import CHECKS

    order = ("generator", "segmenter", "metric")
    rows = []
    for item in CHECKS:
        kinds = "all" if len(item.kinds) == len(order) else ", ".join(kind for kind in order if kind in item.kinds)
        kinds = "audit" if item.audits else "generator that can be asked" if item.asked else kinds
        rows.append((f"`{item.name}`", kinds, item.stage, item.promise))
    return table(("check", "of", "stage", "the plugin promises"), rows)


def exit_codes() -> str:
    classes = {cls.exit_code: cls for cls in vars(errors).values() if _is_error(cls)}
    rows = []
    for code in ExitCode:
        cls = classes.get(code)
        if cls is None:
            meaning = "the command did what it was asked to" if code is ExitCode.OK else "a bug in synthkit: report it"
            rows.append((int(code), "", meaning))
        else:
            rows.append((int(code), f"`{cls.__name__}`", (inspect.getdoc(cls) or "").splitlines()[0]))
    return table(("code", "`error.type`", "meaning"), rows)


def _is_error(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, SynthkitError) and value is not SynthkitError


def policy() -> str:
    text = inspect.getdoc(audit_policy) or ""
    meanings = dict(re.findall(r"^    (\w+) = \S+ +# (.+)$", text, flags=re.MULTILINE))
    rows = [
        (f"`{item.name}`", _toml(item.default), meanings[item.name]) for item in dataclasses.fields(audit_policy.Policy)
    ]
    return table(("key", "default", "meaning"), rows)


def _toml(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _memorization() -> MetricDeclaration:
    found = next(d for d in own_declarations() if d.name == "memorization")
    assert isinstance(found, MetricDeclaration)
    return found


def memorization_params() -> str:
    rows = [(f"`{p['name']}`", p["default"], p["help"]) for p in describe_params(_memorization().params)]
    return table(("parameter", "default", "meaning"), rows)


def memorization_scores() -> str:
    return table(("score", "better", "meaning"), ((f"`{s.name}`", s.better, s.summary) for s in _memorization().scores))


def audit_scores() -> str:
    """What every audit yields, and what else is shown or judged where it is there."""
    rows = []
    for score in audit_seam.SCORES.values():
        forms = "; ".join(", ".join(f"`{key}`" for key in form) or "the whole dataset" for form in score.forms)
        rows.append((f"`{score.name}`", "yes" if score.required else "", forms))
    return table(("score", "required", "of"), rows)


def audit_tables() -> str:
    rows = []
    for found in TABLES.values():
        columns = "; ".join(f"`{name}`: {meaning}" for name, meaning in found.columns.items())
        rows.append((f"`{found.name}`", "yes" if found.required else "", found.summary, columns))
    return table(("table", "required", "a line is", "columns"), rows)


def generator_params(name: str) -> str:
    declaration = next(d for d in own_declarations() if d.name == name)
    rows = [(f"`{p['name']}`", p["default"], p["help"]) for p in describe_params(declaration.params)]
    return table(("parameter", "default", "meaning"), rows)


GENERATORS = ("progan", "stylegan1", "stylegan2", "stylegan3", "diffusion", "edm")

#: file -> blocks in it.
BLOCKS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"plugins": plugins},
    "docs/plugins.md": {
        "hooks": hooks,
        "checks": checks,
        "audit scores": audit_scores,
        "audit tables": audit_tables,
    },
    "docs/runs.md": {"exit codes": exit_codes},
    "docs/generators.md": {f"parameters of {name}": partial(generator_params, name) for name in GENERATORS},
    "docs/audit.md": {"policy": policy, "parameters": memorization_params, "scores": memorization_scores},
}


def with_blocks(text: str, blocks: dict[str, Callable[[], str]]) -> str:
    """``text`` with its generated blocks made anew; ValueError if a block is not there exactly once."""
    for name, make in blocks.items():
        pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"the block {name!r} is not there exactly once")
        content = f"\n{make()}\n\n"
        text = pattern.sub(lambda match, content=content: match[1] + content + match[2], text)
    return text


def commands() -> str:
    """docs/commands.md: the help of every command."""
    from typer.main import get_command
    from typer.testing import CliRunner

    from synthkit.cli import _PANELS, app

    def help_of(path: Sequence[str]) -> str:
        runner = CliRunner(env={"COLUMNS": str(WIDTH), "TERMINAL_WIDTH": str(WIDTH)})
        done = runner.invoke(app, [*path, "--help"], prog_name="synthkit")
        body = "\n".join(line.rstrip() for line in done.output.strip().splitlines())
        return f"```\n{body}\n```"

    root: Any = get_command(app)
    parts = ["# Commands", "The output of `--help`, generated by `python docs/generate.py`.", help_of([])]
    for panel in _PANELS:
        for name, command in root.commands.items():
            if getattr(command, "rich_help_panel", None) != panel:
                continue
            parts += [f"## synthkit {name}", help_of([name])]
            for inner in getattr(command, "commands", {}):
                parts += [f"### synthkit {name} {inner}", help_of([name, inner])]
    return "\n\n".join(parts) + "\n"


def generated() -> dict[Path, str]:
    """Every file that has something generated, as it has to be."""
    made = {ROOT / name: with_blocks((ROOT / name).read_text("utf-8"), blocks) for name, blocks in BLOCKS.items()}
    return {**made, ROOT / "docs" / "commands.md": commands()}


def out_of_date() -> list[str]:
    """Names of the files that differ from what they have to be."""
    return [
        path.relative_to(ROOT).as_posix()
        for path, text in generated().items()
        if not path.is_file() or path.read_text("utf-8") != text
    ]


def main() -> int:
    stale = out_of_date()
    if "--check" not in sys.argv:
        for path, text in generated().items():
            path.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{'out of date' if '--check' in sys.argv else 'rewritten'}: {name}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
