"""From matches to numbers: scores with intervals, tests of copying, tables."""
