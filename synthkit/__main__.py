"""``python -m synthkit`` is ``synthkit``."""

from synthkit.cli import main

main()
