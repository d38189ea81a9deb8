"""The paper's f and g as they are printed, apart from kdsim's rates."""

import numpy as np


def compute_time(x, c, *, a1, a2):
    """Return f(x, c) = a1 * x / (1 - a2 * c), in seconds (eq. 3)."""
    return a1 * x / (1.0 - a2 * np.asarray(c, dtype=float))


def communication_time(y, c, *, b1, b2, b3):
    """Return g(y, c) = y / (b1 * c + b2 * ln(b3 * c)), in seconds (eq. 4)."""
    cores = np.asarray(c, dtype=float)
    return y / (b1 * cores + b2 * np.log(b3 * cores))
