"""The wrong plugin of ``declaration_is_free_to_import``: a package that imports numpy."""

import numpy as np

ZERO = np.zeros(())
