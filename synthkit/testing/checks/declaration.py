"""What every declaration promises. None of these checks loads the method but :func:`module_has_its_functions`."""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import inspect
import json
import re
import subprocess
import sys
from importlib.metadata import entry_points

from synthkit.contract import MetricDeclaration
from synthkit.errors import UsageError
from synthkit.registry.hookspecs import ENTRY_POINT_GROUP
from synthkit.registry.parameters import make_params, params_to_dict
from synthkit.registry.presets import presets_of, purpose, read_preset
from synthkit.registry.registry import problem_of
from synthkit.registry.wheels import normalised
from synthkit.testing.bench import PluginUnderTest, require
from synthkit.testing.checks.registry import can_be_asked, check

_ARGUMENTS = {
    "generator": {"train": ["data", "checkpoint", "params"], "generate": ["checkpoint", "seeds", "params"]},
    "segmenter": {"train": ["data", "checkpoint", "params"], "segment": ["checkpoint", "images", "params"]},
    "metric": {"score": ["metrics", "params"]},
}

# Runs in a fresh interpreter: what does importing the package bring, start, or write?
_PROBE = """
import importlib, json, sys
import synthkit
before, touched = set(sys.modules), []
def hook(event, arguments):
    if event.startswith("socket.") or event == "subprocess.Popen":
        touched.append(event)
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & 0o3:
        touched.append(f"writing {arguments[0]}")
sys.addaudithook(hook)
importlib.import_module(sys.argv[1])
print(json.dumps([sorted(set(sys.modules) - before), touched]))
"""


@check("generator", "segmenter", "metric", stage="declaration")
def declaration_is_valid(plugin: PluginUnderTest) -> None:
    """The declaration is complete and consistent, and has a JSON form."""
    problem = problem_of(plugin.declaration)
    require(not problem, problem)
    json.dumps(plugin.declaration.to_dict(), allow_nan=False)
    owners = _installed_by(plugin.package)
    require(
        not owners or normalised(plugin.declaration.distribution) in map(normalised, owners),
        f"it declares the distribution {plugin.declaration.distribution}, and comes with {', '.join(sorted(owners))}",
    )
    require("\n" not in plugin.declaration.summary.strip(), "its summary is longer than a line")
    require(plugin.declaration.gpu in ("required", "optional", "none"), f"gpu is {plugin.declaration.gpu!r}")
    require(
        plugin.declaration.reproducible in ("bitwise", "tolerance"),
        f"reproducible is {plugin.declaration.reproducible!r}",
    )


def _installed_by(package: str) -> set[str]:
    """Distributions that bring this package as a plugin; none for a declaration that is not installed."""
    top = package.partition(".")[0]
    entries = entry_points(group=ENTRY_POINT_GROUP)
    return {entry.dist.name for entry in entries if entry.dist is not None and entry.module.partition(".")[0] == top}


@check("generator", "segmenter", "metric", stage="declaration")
def declaration_is_free_to_import(plugin: PluginUnderTest) -> None:
    """Importing the declaration brings the standard library and packages of synthkit alone, starts and writes nothing.

    What such a package (``synthkit_...``: parameters that several plugins share) imports counts like the plugin's own.
    """
    brought, touched = _what_importing_brings(plugin.package)
    allowed = {plugin.package.partition(".")[0], "synthkit", "pluggy", *sys.stdlib_module_names}
    tops = {name.partition(".")[0] for name in brought}
    foreign = sorted(name for name in tops - allowed if not name.startswith("synthkit_"))
    require(not foreign, f"importing {plugin.package} imports {', '.join(foreign)}")
    method = plugin.declaration.module
    require(
        method == plugin.package or method not in brought,
        f"importing {plugin.package} imports the method {method}",
    )
    require(not touched, f"importing {plugin.package} means {', '.join(touched)}")


@functools.cache
def _what_importing_brings(package: str) -> tuple[list[str], list[str]]:
    path = "import sys; sys.path[:] = " + repr(sys.path) + "\n"
    done = subprocess.run(
        [sys.executable, "-B", "-c", path + _PROBE, package], capture_output=True, text=True, timeout=60, check=False
    )
    require(done.returncode == 0, f"importing {package} fails: {done.stderr.strip().rpartition(chr(10))[2]}")
    brought, touched = json.loads(done.stdout.splitlines()[-1])
    return brought, touched


@check("generator", "segmenter", "metric", stage="declaration")
def licence_and_citation_are_declared(plugin: PluginUnderTest) -> None:
    """The declaration names the licence of the code and whom to cite, with a DOI or an address."""
    require(plugin.declaration.licence.strip(), "it declares no licence")
    require(plugin.declaration.citations, "it declares no citation")
    for citation in plugin.declaration.citations:
        require(citation.text.strip(), "a citation has no text")
        require(citation.doi or citation.url, f"the citation {citation.text[:40]!r} has neither DOI nor address")
        require(
            not citation.doi or citation.doi.startswith("10."),
            f"the DOI {citation.doi!r} does not begin with 10. (no resolver in front of it)",
        )


@check("generator", "segmenter", "metric", stage="declaration")
def parameters_are_documented(plugin: PluginUnderTest) -> None:
    """Every parameter has a default and a help text, and survives the way through JSON."""
    for item in dataclasses.fields(plugin.declaration.params):
        require(item.metadata.get("help"), f"the parameter {item.name} has no help (make it by synthkit.param)")
    params = plugin.params
    again = make_params(plugin.declaration, json.loads(json.dumps(params_to_dict(params))))
    require(again == params, "its parameters change on the way through JSON")


@check("generator", "segmenter", stage="declaration")
def presets_are_parameters(plugin: PluginUnderTest) -> None:
    """Every preset in its package begins with a comment on what it is for, and holds parameters that it has."""
    for name, file in presets_of(plugin.declaration).items():
        require(purpose(file), f"the preset {name} does not begin with a comment on what it is for")
        try:
            make_params(plugin.declaration, read_preset(plugin.declaration, name))
        except UsageError as error:
            require(False, f"the preset {name} does not fit: {error}")


@check("generator", "segmenter", "metric", stage="declaration")
def dockerfile_is_in_the_package(plugin: PluginUnderTest) -> None:
    """The Dockerfile travels inside the package, and its base can be chosen by ``ARG BASE_IMAGE``."""
    file = importlib.resources.files(plugin.package) / plugin.declaration.dockerfile
    require(file.is_file(), f"{plugin.package} holds no {plugin.declaration.dockerfile}")
    text = file.read_text(encoding="utf-8")
    require(re.search(r"^ARG\s+BASE_IMAGE\b", text, re.M), f"{plugin.declaration.dockerfile} has no ARG BASE_IMAGE")
    require(
        re.search(r"^FROM\s+(--\S+\s+)*\$(BASE_IMAGE\b|\{BASE_IMAGE\b)", text, re.M),
        f"{plugin.declaration.dockerfile} has no FROM ${{BASE_IMAGE}}",
    )


@check("metric", stage="declaration")
def scores_are_described(plugin: PluginUnderTest) -> None:
    """Every score has a name of its own, a summary and a direction."""
    declaration = plugin.declaration
    if not isinstance(declaration, MetricDeclaration):
        return
    names = [score.name for score in declaration.scores]
    require(len(set(names)) == len(names), "two scores have one name")
    for score in declaration.scores:
        require(score.summary.strip(), f"the score {score.name} has no summary")
        require(
            score.better in ("higher", "lower", "neither"), f"the score {score.name} has the direction {score.better!r}"
        )


@check("generator", "segmenter", "metric")
def module_has_its_functions(plugin: PluginUnderTest) -> None:
    """The module offers the functions of its kind, with the argument names of the contract."""
    for name, arguments in _ARGUMENTS[plugin.declaration.kind].items():
        function = getattr(plugin.module, name, None)
        require(callable(function), f"it has no function {name}")
        found = inspect.signature(function)  # type: ignore[arg-type]
        kinds = {p.kind for p in found.parameters.values()}
        if plugin.declaration.kind == "metric":
            takes_roles = inspect.Parameter.VAR_KEYWORD in kinds
            arguments = arguments if takes_roles else [*arguments, *getattr(plugin.declaration, "roles", ())]
        elif name == "train":
            roles = plugin.declaration.optional_roles
            arguments = [*arguments, *roles, *(("initial_state",) if "initial" in roles else ())]
        elif name == "generate" and can_be_asked(plugin.declaration):
            arguments = [*arguments, "asked"]
        try:
            found.bind(**dict.fromkeys(arguments))
        except TypeError as error:
            require(False, f"{name} does not take ({', '.join(arguments)}): {error}")
