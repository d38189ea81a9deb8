"""Tables of timings as other people keep them, of devices whose rates are known."""

from __future__ import annotations

import math

import numpy as np

#: The options that say what such a table's columns mean.
OPTIONS = (
    "--device", "own", "--map", "task=art", "--map", "comm_cores=kerne_netz",
    "--map", "total_cores=kerne", "--map", "work=menge", "--map", "repeat=lauf",
    "--map", "seconds=dauer_ms:ms", "--value", "task:lernen=compute", "--value",
    "task:empfang=comm", "--unit", "compute=batch", "--unit", "comm=MB",
)  # fmt: skip


def random_device(rng, cores=8):
    """Return the rates of a device of the paper's forms: q(0..cores-1) and r(1..cores)."""
    a1, a2 = 10 ** rng.uniform(-3, 0), rng.uniform(0.02, 0.98) / (cores - 1)
    first = 10 ** rng.uniform(0, 3)
    top, w = first * rng.uniform(1.2, cores), rng.uniform(0, 1)
    c = np.arange(1, cores + 1)
    r = first + (top - first) * ((1 - w) * (c - 1) / (cores - 1) + w * np.log(c) / np.log(cores))
    return (1 - a2 * np.arange(cores)) / a1, r


def table(rng, q, r, *, repeats=6, sizes=(2.0, 5.0), noise=0.05, outliers=0.10, comma=True):
    """Write timings of a device in ms, two sizes of work per repeat, with slow outliers."""
    cores = len(r)
    lines = ["art;kerne_netz;kerne;menge;lauf;dauer_ms"]
    for repeat in range(repeats):
        for c in range(cores + 1):
            sides = [("lernen", q[c])] if c < cores else []
            sides += [("empfang", r[c - 1])] if c else []
            for kind, rate in sides:
                for size in sizes:
                    ms = 1e3 * size / rate * math.exp(noise * rng.normal())
                    ms *= rng.uniform(1.3, 3.0) if rng.random() < outliers else 1.0
                    lines.append(f"{kind};{c};{cores};{size:g};{repeat};{ms:.6f}")
    text = "\n".join(lines) + "\n"
    return text.replace(".", ",") if comma else text.replace(";", ",")
