"""From matches to numbers: scores with their intervals, and the tables."""
