"""Tiny data for the tests of the workloads."""

import numpy as np

from calibration.workloads.data.datasets import Dataset


def stripes(pool=160, test=60, classes=3, side=8, seed=0):
    """Noisy images whose bright row tells the class: learnable in a few steps."""
    rng = np.random.default_rng(seed)

    def part(count):
        labels = np.arange(count, dtype=np.int64) % classes
        images = rng.integers(0, 80, (count, 1, side, side))
        images[np.arange(count), 0, 2 * labels + 1] += 150
        return images.astype(np.uint8), labels

    return Dataset("stripes", *part(pool), *part(test), classes)
