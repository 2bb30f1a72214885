"""Start-up: ``synthkit --help`` and ``synthkit plugins`` beside a bare Typer app of nine commands, same help style.

    python benchmarks/startup.py [--trials 15]

Every trial starts each program once, in turn; figures are medians, ratios are medians of the ratios within a trial, of
elapsed time and of processor time (user and system, of the started process; what a busy machine leaves comparable).
The bare app has plain help (no rich), one argument and three options a command, and is imported from byte code as
synthkit is. Target: 1.3x for ``--help``. ``plugins`` also finds the entry points, imports the declarations and draws a
table; its peer is a command of the bare app that prints one line.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TARGET = 1.3

_HEAD = """
from pathlib import Path
from typing import Annotated
import typer

app = typer.Typer(name="bare", rich_markup_mode=None, pretty_exceptions_enable=False, help="A bare Typer app.")
"""
_COMMAND = '''
@app.command("command{n}")
def command{n}(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder.")] = Path("x"),
    out: Annotated[Path, typer.Option("-o", "--out", help="Another folder.")] = Path("out"),
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    size: Annotated[int, typer.Option("--size", help="A number.")] = 256,
) -> None:
    """Do the thing number {n}."""
    print(folder)
'''


def write_bare_app(folder: Path) -> None:
    """The package ``bare``, run by ``python -m bare``."""
    package = folder / "bare"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "app.py").write_text(_HEAD + "".join(_COMMAND.format(n=n) for n in range(1, 10)))
    (package / "__main__.py").write_text("from bare.app import app\n\napp()\n")


def seconds(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Elapsed and processor time of a command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    elapsed, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return elapsed, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_bare_app(Path(folder))
        environment = {**os.environ, "PYTHONPATH": folder}
        python = [sys.executable, "-m"]
        programs = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "bare --help": [*python, "bare", "--help"],
            "bare command1": [*python, "bare", "command1"],
            "synthkit --help": [*python, "synthkit", "--help"],
            "synthkit plugins": [*python, "synthkit", "plugins"],
        }
        for command in programs.values():  # byte code and page cache
            seconds(command, environment)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
        for _ in range(arguments.trials):
            for name, command in programs.items():
                times[name].append(seconds(command, environment))
    for kind, which in (("elapsed", 0), ("processor", 1)):
        for name, measured in times.items():
            print(f"{kind:9s} {name:16s} {1e3 * statistics.median(t[which] for t in measured):6.0f} ms")
        for name, peer in (("synthkit --help", "bare --help"), ("synthkit plugins", "bare command1")):
            ratios = [ours[which] / theirs[which] for ours, theirs in zip(times[name], times[peer], strict=True)]
            aim = f", target {TARGET}x" if name.endswith("--help") else ""
            print(
                f"{kind:9s} {name} / {peer}: {statistics.median(ratios):.2f}x "
                f"({min(ratios):.2f}-{max(ratios):.2f}){aim}"
            )


if __name__ == "__main__":
    main()
