"""What all tests of this repository share, those of core and those of the plugins."""

from __future__ import annotations

from hypothesis import settings

# A property that is slow once, on a busy machine, is none that fails. The rest stays as it is, in CI too.
settings.register_profile("synthkit", settings(deadline=None))
settings.load_profile("synthkit")
