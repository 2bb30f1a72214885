"""The hooks of synthkit, for pluggy. There is one: a plugin says what it declares.

A distribution joins by an entry point in the group ``synthkit.plugins``::

    [project.entry-points."synthkit.plugins"]
    stylegan2 = "synthkit_stylegan2"

and the named module implements the hook::

    import synthkit

    @synthkit.hookimpl
    def synthkit_declare():
        return [DECLARATION]
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from synthkit.contract import Declaration

ENTRY_POINT_GROUP = "synthkit.plugins"

hookspec = pluggy.HookspecMarker("synthkit")
hookimpl = pluggy.HookimplMarker("synthkit")


@hookspec
def synthkit_declare() -> Iterable[Declaration]:  # type: ignore[empty-body]
    """Return the declarations of this plugin. Must be free to call: no torch, no file, no network."""
