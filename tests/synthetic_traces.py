"""Traces of known parameters, for tests of whatever is made of traces."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from paper_curves import communication_time, compute_time

from calibration.trace import Trace

A1, A2 = 0.02, 0.1
B1, B2, B3 = 0.3, 1.2, 3.0


def synthetic(
    total=8, trials=8, *, noise=0.0, outliers=0.0, seed=0, a2=A2, b=(B1, B2, B3), comm_cores=None
):
    """Make a trace of known parameters with log-normal noise and slow outliers."""
    rng = np.random.default_rng(seed)
    rows = []
    for trial in range(trials):
        for c in range(total + 1):
            for task in ("compute", "comm"):
                if c == (total if task == "compute" else 0):
                    continue
                if task == "comm" and comm_cores is not None and c not in comm_cores:
                    continue
                if task == "compute":
                    seconds = float(compute_time(4.0, c, a1=A1, a2=a2))
                else:
                    seconds = float(communication_time(4.0, c, b1=b[0], b2=b[1], b3=b[2]))
                seconds *= math.exp(noise * rng.normal())
                if rng.random() < outliers:
                    seconds *= rng.uniform(1.3, 3.0)
                rows.append(
                    {
                        "device": "synthetic", "task": task, "total_cores": total,
                        "comm_cores": c, "work": 4.0,
                        "unit": "batch" if task == "compute" else "MB", "repeat": 0,
                        "seconds": seconds, "t_start": 0.0, "phase": "step" if task == "compute"
                        else "", "condition": "alone", "trial": trial, "status": "ok",
                        "streams": 0, "changes": 0, "foreign_cpu": 0.0, "sender_cpu_s": math.nan,
                    }
                )  # fmt: skip
    return Trace(pd.DataFrame(rows), {"host": {"cpu": "none"}})
