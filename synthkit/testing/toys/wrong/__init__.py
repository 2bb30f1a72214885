"""Toy plugins that break one promise each: what every check is tried on.

Each is a right toy but for one thing, so it passes all other checks.
:data:`synthkit.testing.toys.wrong.catalogue.WRONG` lists them with the check that they fail.
"""
