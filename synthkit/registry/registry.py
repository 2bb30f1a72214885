"""Finds plugins, checks what they declare, and keeps a broken one from breaking anything else.

A plugin is an entry point in the group ``synthkit.plugins`` (see :mod:`synthkit.registry.hookspecs`). Each is
imported in a thread of its own with a time limit, so that one that raises, exits or hangs is listed as broken with the
reason. Methods (``declaration.module``) are imported by :func:`load_module` only,
inside the run that needs them.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import json
import re
import threading
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

import pluggy

from synthkit.contract import (
    CONTRACT_VERSION,
    FILE_ROLES,
    SLICE_ROLES,
    VOLUME_ROLES,
    Declaration,
    GeneratorDeclaration,
    Kind,
    MetricDeclaration,
    SegmenterDeclaration,
)
from synthkit.errors import PluginError, UsageError
from synthkit.registry import hookspecs
from synthkit.registry.parameters import make_params
from synthkit.registry.reserved import RESERVED

_IMPORT_TIMEOUT_SECONDS = 10.0
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")
_FUNCTIONS = {"generator": ("train", "generate"), "segmenter": ("train", "segment"), "metric": ("score",)}


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin that cannot be used: the entry point, where it comes from, and why."""

    name: str
    distribution: str
    reason: str


@dataclass
class Registry:
    """All plugins that are installed, by name."""

    declarations: dict[str, Declaration] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    broken: list[BrokenPlugin] = field(default_factory=list)

    def get(self, name: str, kind: Kind | None = None) -> Declaration:
        """The declaration called ``name``; raises :class:`PluginError` that names the nearest, or why it is broken."""
        declaration = self.declarations.get(name)
        if declaration is not None and kind in (None, declaration.kind):
            return declaration
        if declaration is not None:
            raise PluginError(
                f"{name} is a {declaration.kind}, not a {kind}.",
                f"Installed {kind}s: {', '.join(self.names(kind)) or 'none'}.",
                "See `synthkit plugins`.",
            )
        for broken in self.broken:
            if broken.name == name:
                raise PluginError(
                    f"The plugin {name} is broken.",
                    f"{broken.reason}.",
                    f"Repair or uninstall {broken.distribution or 'it'}; other plugins are not affected.",
                )
        names = self.names(kind)
        what = f"There is no {kind or 'plugin'} called {name!r}."
        if "/" in name or "." in name:
            raise PluginError(what, "It looks like a path.", "The name of a plugin comes first, its data after it.")
        small = name.lower()
        close = [n for n in names if n.startswith(small)] or difflib.get_close_matches(small, names, n=1)
        if close:
            raise PluginError(
                what, f"Did you mean {' or '.join(close)}?", "Names are written as `synthkit plugins` does."
            )
        raise PluginError(
            what,
            f"Installed: {', '.join(names) or 'none'}.",
            f"See `synthkit plugins`; a plugin is installed like any Python package (synthkit-{name}).",
        )

    def audit(self, name: str) -> MetricDeclaration:
        """The audit called ``name``.

        Raises
        ------
        PluginError : as :meth:`get`. UsageError : a metric that is not an audit; names those that are installed.
        """
        declaration = self.get(name, "metric")
        if isinstance(declaration, MetricDeclaration) and declaration.audit:
            return declaration
        audits = [n for n in self.names("metric") if getattr(self.declarations[n], "audit", False)]
        raise UsageError(
            f"{name} is not an audit.",
            "A verdict needs scores and tables that only an audit yields.",
            f"Installed audits: {', '.join(audits) or 'none'}.",
        )

    def names(self, kind: Kind | None = None) -> list[str]:
        return sorted(name for name, d in self.declarations.items() if kind in (None, d.kind))


def discover(entries: Iterable[EntryPoint] | None = None, timeout_seconds: float = _IMPORT_TIMEOUT_SECONDS) -> Registry:
    """Import every installed plugin's declarations. Never raises for what a plugin does."""
    manager = pluggy.PluginManager("synthkit")
    manager.add_hookspecs(hookspecs)
    registry = Registry()
    sound: dict[str, list[tuple[Declaration, str, str]]] = {}
    found = entry_points(group=hookspecs.ENTRY_POINT_GROUP) if entries is None else entries
    for entry in sorted(found, key=lambda item: item.name):
        distribution = entry.dist.name if entry.dist is not None else ""
        declared, reason = _ask(manager, entry, timeout_seconds)
        for declaration in declared:
            problem = problem_of(declaration)
            name = getattr(declaration, "name", entry.name)
            if not problem and RESERVED.get(name, distribution) != distribution:
                problem = f"the name {name} is reserved for {RESERVED[name]}"
            claimed = getattr(declaration, "distribution", distribution)
            if not problem and claimed in RESERVED.values() and claimed != distribution:
                problem = f"it says that it is of {claimed}, and is of {distribution or 'no package'}"
            if problem:
                registry.broken.append(BrokenPlugin(str(name), distribution, problem))
            else:
                version = entry.dist.version if entry.dist is not None else ""
                sound.setdefault(name, []).append((declaration, distribution, version))
        if reason:
            registry.broken.append(BrokenPlugin(entry.name, distribution, reason))
    for name, declared_as in sound.items():
        if len(declared_as) == 1:
            registry.declarations[name], _, registry.versions[name] = declared_as[0]
            continue
        # Whichever came first would be a matter of names of entry points: nobody gets it.
        owners = [distribution or "a plugin" for _, distribution, _ in declared_as]
        reason = f"the name {name} is declared by {' and by '.join(owners)}: uninstall all but one"
        registry.broken += [BrokenPlugin(name, distribution, reason) for _, distribution, _ in declared_as]
    return registry


def _ask(manager: pluggy.PluginManager, entry: EntryPoint, timeout_seconds: float) -> tuple[list[Any], str]:
    """Declarations of one entry point, and what went wrong."""
    declared: list[Any] = []
    problem: list[str] = []

    def work() -> None:
        try:
            module = entry.load()
            manager.register(module, name=entry.name)
            others = [plugin for plugin in manager.get_plugins() if plugin is not module]
            for answer in manager.subset_hook_caller("synthkit_declare", others)():
                declared.extend(answer)
            if not declared:
                problem.append("it declares nothing (no hook synthkit_declare, or an empty answer)")
        except BaseException as error:  # a plugin may even call sys.exit
            problem.append(f"{type(error).__name__} while loading: {error}".replace("\n", " ")[:400])

    # A daemon, so that one that never returns does not keep the command from ending.
    thread = threading.Thread(target=work, daemon=True, name=f"plugin-{entry.name}")
    thread.start()
    thread.join(timeout_seconds)
    if thread.is_alive():
        return [], f"it did not finish loading within {timeout_seconds:g} s"
    return list(declared), problem[0] if problem else ""


def problem_of(declaration: Any) -> str:
    """What is wrong with a declaration, in a few words; empty when nothing is. Never raises."""
    try:
        problem = _problem_of(declaration)
        if not problem:
            json.dumps(declaration.to_dict(), allow_nan=False)
    except Exception as error:  # fields of types that nobody thought of
        return f"its declaration is malformed: {type(error).__name__}: {error}"
    return problem


def _problem_of(declaration: Any) -> str:
    if not isinstance(declaration, (GeneratorDeclaration, SegmenterDeclaration, MetricDeclaration)):
        return f"it declares a {type(declaration).__name__}, not a Declaration"
    if not isinstance(declaration.contract, int) or declaration.contract > CONTRACT_VERSION:
        return f"it needs contract {declaration.contract}, this synthkit has {CONTRACT_VERSION}: update synthkit-core"
    for name in ("name", "summary", "module", "distribution"):
        if not isinstance(getattr(declaration, name), str) or not getattr(declaration, name):
            return f"its {name} is not text"
    if not _NAME.match(declaration.name):
        return f"its name {declaration.name!r} is not lower-case letters, digits and hyphens"
    if not dataclasses.is_dataclass(declaration.params) or not isinstance(declaration.params, type):
        return "its params are not a dataclass"
    if not declaration.params.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return "its params are not frozen"
    try:
        defaults = declaration.params()
        make_params(declaration, {f.name: getattr(defaults, f.name) for f in dataclasses.fields(defaults)})
    except Exception as error:
        return f"the defaults of its params are not valid: {error}".rstrip(".")
    if isinstance(declaration, GeneratorDeclaration):
        low, high = declaration.minimum_size, declaration.maximum_size
        if not 0 < low <= high:
            return f"its sizes {low} to {high} are not a range"
        need = declaration.label_maps_need
        if need and not (declaration.label_maps and isinstance(getattr(defaults, need, None), bool)):
            return f"its label maps need {need!r}, which is not a parameter that is true or false"
        if problem := _problem_of_conditions(declaration.conditions):
            return f"its conditions {problem}"
    if isinstance(declaration, MetricDeclaration):
        roles = {*declaration.roles, *(set(declaration.optional_roles) - FILE_ROLES)}
        if not declaration.roles or not (roles <= SLICE_ROLES or roles <= VOLUME_ROLES):
            return f"its roles {sorted(roles)} are not of {sorted(SLICE_ROLES)} or of {sorted(VOLUME_ROLES)}"
        if not declaration.scores:
            return "it declares no scores"
        if declaration.audit and not {"train", "synthetic"} <= set(declaration.roles):
            return f"it is an audit, and its roles {sorted(roles)} are not train and synthetic"
        if "kept" in declaration.optional_roles and (declaration.audit or not {"real", "synthetic"} <= roles):
            return f"it takes the role kept, which is of real images, and its roles {sorted(roles)} are not such"
        if "train" in roles and not declaration.audit:
            return "it takes the role train, which only an audit is given, and does not declare audit=True"
    return ""


def _problem_of_conditions(conditions: Any) -> str:
    """What is wrong with the class of a generator's conditions; empty when nothing is."""
    if not dataclasses.is_dataclass(conditions) or not isinstance(conditions, type):
        return "are not a dataclass"
    if not conditions.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return "are not frozen"
    for name, hint in typing.get_type_hints(conditions).items():
        item, (kind, *others) = conditions.__dataclass_fields__[name], typing.get_args(hint) or (hint,)
        if others != [type(None)] or item.default is not None:
            return f"have {name}, which is not of one type or None, and None by default"
        if name == "labels":
            return "have the name labels, which given label maps have"
        if kind not in (bool, int, float, str, tuple[str, ...]) and typing.get_origin(kind) is not typing.Literal:
            return f"have {name} of a type that is not offered: {kind}"
        if kind in (int, float) and None in (item.metadata.get("minimum"), item.metadata.get("maximum")):
            return f"have the number {name} without a minimum and a maximum"
        if kind in (str, tuple[str, ...]) and item.metadata.get("choices") is None:
            return f"have the text {name} without choices"
        if item.metadata.get("choices") == "labels" and kind != tuple[str, ...]:
            return f"have {name} of labels, which is not a tuple[str, ...]"
    return ""


def load_module(declaration: Declaration) -> ModuleType:
    """Import the method. Raises :class:`PluginError` that says what is missing."""
    try:
        module = importlib.import_module(declaration.module)
    except ImportError as error:
        raise PluginError(
            f"The method of {declaration.name} cannot be imported.",
            f"{error}.",
            "Run it in its container (--backend docker), or install what it needs to run without one: "
            f"pip install '{declaration.distribution}[runtime]'.",
        ) from error
    except Exception as error:
        raise PluginError(
            f"The method of {declaration.name} fails on import.",
            f"{type(error).__name__}: {error}.",
            f"Report it to the authors of {declaration.distribution}.",
        ) from error
    optional = {"imports": "import_checkpoint", "probabilities": "segment_with_probabilities"}
    declared = [function for field, function in optional.items() if getattr(declaration, field, None)]
    for function in (*_FUNCTIONS[declaration.kind], *declared):
        if not callable(getattr(module, function, None)):
            raise PluginError(
                f"{declaration.name} is not a {declaration.kind}.",
                f"Its module {declaration.module} has no function {function}.",
                f"Report it to the authors of {declaration.distribution}.",
            )
    return module
