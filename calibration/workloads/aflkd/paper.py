"""The accuracies that the AFLKD paper reports (its tables 2 to 4), in percent of the test images.

One run each, without spread. Its cloud network was trained on training *and* test data, and its
GPU epochs are not ours: the numbers stand beside a study's for orientation, they are no target.
"""

from __future__ import annotations

_SIZES = tuple(range(500, 5001, 500))

#: Cloud network, percent.
_CLOUD = {"cifar10": 86.62, "fashion-mnist": 92.87, "cifar100": 68.36}

#: (data, net, method) -> percent at 500, 1,000, ... images. Table 3 ends at 3,000.
_TABLES: dict[tuple[str, str, str], tuple[float, ...]] = {
    ("cifar10", "edge-1", "aflkd"): (
        49.5, 56.0, 59.9, 62.1, 62.8, 65.6, 66.2, 67.4, 69.3, 70.2,
    ),
    ("cifar10", "edge-1", "sslf"): (
        40.4, 50.0, 58.0, 59.7, 61.0, 64.7, 65.4, 66.9, 68.1, 68.3,
    ),
    ("cifar10", "edge-1", "baseline"): (
        33.8, 43.2, 46.4, 44.4, 50.4, 53.7, 56.5, 58.2, 58.6, 62.3,
    ),
    ("cifar10", "edge-2", "aflkd"): (
        51.7, 60.0, 62.0, 63.8, 63.8, 68.9, 70.2, 71.0, 73.3, 74.6,
    ),
    ("cifar10", "edge-2", "sslf"): (
        50.6, 58.9, 55.9, 62.6, 61.1, 67.6, 68.2, 69.7, 70.3, 70.3,
    ),
    ("cifar10", "edge-2", "baseline"): (
        35.8, 44.0, 41.8, 50.2, 52.8, 56.4, 61.0, 64.0, 64.6, 65.7,
    ),
    ("cifar10", "edge-3", "aflkd"): (
        53.9, 61.5, 65.0, 70.0, 69.8, 72.1, 73.0, 73.4, 74.3, 75.3,
    ),
    ("cifar10", "edge-3", "sslf"): (
        51.3, 56.9, 58.5, 64.5, 67.3, 66.6, 67.8, 72.0, 72.5, 74.0,
    ),
    ("cifar10", "edge-3", "baseline"): (
        38.3, 43.9, 49.6, 49.1, 55.2, 55.7, 61.4, 62.3, 64.5, 66.1,
    ),
    ("fashion-mnist", "edge-1", "aflkd"): (85.3, 86.5, 89.1, 89.0, 89.4, 89.7),
    ("fashion-mnist", "edge-1", "sslf"): (83.4, 85.3, 88.3, 87.4, 88.9, 89.1),
    ("fashion-mnist", "edge-1", "baseline"): (77.3, 78.6, 82.9, 83.1, 83.9, 86.9),
    ("fashion-mnist", "edge-2", "aflkd"): (85.9, 87.4, 90.1, 89.7, 90.3, 91.5),
    ("fashion-mnist", "edge-2", "sslf"): (83.1, 85.0, 86.2, 87.2, 89.8, 89.6),
    ("fashion-mnist", "edge-2", "baseline"): (79.9, 82.3, 84.1, 85.1, 87.6, 88.6),
    ("cifar100", "edge-1", "aflkd"): (
        9.7, 15.8, 19.5, 23.5, 23.4, 24.7, 27.8, 28.4, 32.4, 34.2,
    ),
    ("cifar100", "edge-1", "sslf"): (8.4, 9.2, 11.6, 15.4, 15.1, 22.2, 22.6, 22.5, 25.1, 27.4),
    ("cifar100", "edge-1", "baseline"): (
        5.1, 6.7, 8.9, 12.4, 11.8, 13.4, 16.9, 19.0, 17.9, 19.3,
    ),
    ("cifar100", "edge-2", "aflkd"): (
        15.9, 20.6, 28.3, 31.3, 31.5, 35.8, 38.4, 38.9, 40.2, 40.6,
    ),
    ("cifar100", "edge-2", "sslf"): (
        9.0, 13.8, 17.9, 22.5, 22.3, 23.4, 25.9, 29.9, 30.4, 36.2,
    ),
    ("cifar100", "edge-2", "baseline"): (
        5.9, 7.8, 9.2, 11.4, 15.5, 15.6, 15.2, 17.9, 18.8, 20.5,
    ),
    ("cifar100", "edge-3", "aflkd"): (
        36.8, 43.7, 44.1, 49.1, 48.6, 50.6, 53.0, 53.3, 54.1, 55.6,
    ),
    ("cifar100", "edge-3", "sslf"): (
        17.6, 26.1, 32.7, 39.4, 41.6, 42.2, 42.6, 44.9, 48.1, 48.9,
    ),
    ("cifar100", "edge-3", "baseline"): (
        6.1, 8.1, 8.7, 10.5, 13.2, 15.6, 14.8, 16.2, 18.6, 19.2,
    ),
}  # fmt: skip


def paper_accuracy(data: str, net: str, method: str, size: int) -> float | None:
    """Return the paper's accuracy in percent, or None where it reports none.

    Parameters
    ----------
    data : str
        A data set; ``"cifar10-jpeg"`` is looked up as CIFAR-10.
    net, method : str
        An edge network and a method; every AFLKD policy stands beside the paper's one AFLKD.

    Examples
    --------
    >>> paper_accuracy("fashion-mnist", "edge-1", "aflkd-reverse", 500)
    85.3
    """
    key = (data.removesuffix("-jpeg"), net, method.partition("-")[0])
    values = _TABLES.get(key, ())
    place = _SIZES.index(size) if size in _SIZES else len(values)
    return values[place] if place < len(values) else None


def paper_cloud_accuracy(data: str) -> float | None:
    """Return the paper's accuracy of the cloud network in percent, or None."""
    return _CLOUD.get(data.removesuffix("-jpeg"))
