"""Labels of generated datasets beside those of the real one that their generators learned from.

    python benchmarks/sample_labels.py REAL SYNTHETIC [SYNTHETIC ...]

For each dataset: slices with labels, patches of a single pixel (touching labelled pixels, corners too), pixels of each
label a slice, and the mean grey level of each contrast under each label. Of REAL the training part is looked at.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from synthkit_generative.gate import Counts

from synthkit.data.dataset import Dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", type=Path)
    for path in parser.parse_args().datasets:
        data = Dataset(path).training_part()
        images, labels = data.read(range(len(data)))
        counts = Counts.of(labels, data.label_values)
        print(f"{path.name}: {len(data)} slices, {100 * counts.labelled:.0f} % with labels, ", end="")
        print(f"{100 * counts.single:.0f} % of patches are a single pixel")
        for label in data.scheme.labels:
            under = [images[:, contrast][labels == label.value] for contrast in range(len(data.contrasts))]
            grey = ", ".join(
                f"{name} {np.mean(values):.0f}" if len(values) else f"{name} -"
                for name, values in zip(data.contrasts, under, strict=True)
            )
            print(f"  {label.name:5}{counts.pixels[label.value]:7.2f} pixels a slice; grey level {grey}")


if __name__ == "__main__":
    main()
