"""The curve file: what a fit leaves for scenarios to read (YAML).

``kdsim_curves``, ``reference_cores``, ``compute``, ``communication`` describe the device, and
``measured_cores`` the core counts beyond which scenarios refuse its curves; ``provenance`` says
where the numbers come from and is for people.
"""

from __future__ import annotations

import math
from io import StringIO
from pathlib import Path
from typing import Any

from calibration.fit import Curve, Fit
from calibration.machine.host import package_versions
from kdsim._types import Record
from kdsim.errors import FitError
from kdsim.output_file import write_output
from kdsim.scenario.files.faults import FaultyFileError
from kdsim.scenario.files.yaml_document import parse_yaml
from kdsim.scenario.load import CURVES_VERSION, curves_of
from kdsim.scenario.parts.curve_draws import drawn_text

#: Draws that the file keeps: enough for intervals of what is computed from them.
_MOST_DRAWS = 200
#: Numbers per side: a table of 64 cores keeps 156 draws, in some 80 kB.
_MOST_NUMBERS = 10_000


def curve_document(fit: Fit) -> Record:
    """Return a fit as the plain values of a curve file.

    Returns
    -------
    dict
        Numbers rounded to six significant digits, far below their intervals.
    """
    trace = fit.trace
    provenance = {
        "trace": trace.path.name if trace.path else None,
        "trace_sha256": trace.sha256 or None,
        "device": trace.device,
        "host": trace.header.get("host"),
        "cores_given_by": trace.header.get("cores_given_by"),
        "units": {"compute": "batch (forward and backward)", "communication": "MB (1e6 bytes)"},
        "fit_versions": package_versions(["kdsim", "numpy", "scipy"]),
        "models": {"compute": fit.compute.model, "communication": fit.communication.model},
        "bootstrap": {"resamples": fit.bootstrap, "seed": fit.seed, "level": fit.level},
        "intervals": {side: {k: list(v) for k, v in ci.items()} for side, ci in fit.ci.items()},
        "rates": {
            curve.side: {
                "comm_cores": list(curve.measured),
                "rate": [curve.rates[c] for c in curve.measured],
                "low": [curve.low[c] for c in curve.measured],
                "high": [curve.high[c] for c in curve.measured],
            }
            for curve in (fit.compute, fit.communication)
        },
        "points": fit.points.to_dict("records"),
        "model_table": fit.model_table.drop(columns="chosen").to_dict("records"),
        "verdicts": list(fit.verdicts),
        **fit.extras,
    }
    return {
        "kdsim_curves": CURVES_VERSION,
        "reference_cores": trace.total_cores,
        "measured_cores": {
            curve.side: _own_range(curve, trace.total_cores)
            for curve in (fit.compute, fit.communication)
        },
        "compute": _plain(_side(fit.compute)),
        "communication": _plain(_side(fit.communication)),
        **_draws(fit),
        "provenance": _plain(provenance),
    }


def _draws(fit: Fit) -> Record:
    """Return the first of the bootstrap's draws, as many as stay small beside the rest."""
    sides = (fit.compute, fit.communication)
    widest = max(max(len(curve.parameter_draws), 1) for curve in sides)
    count = min(*(len(curve.draws) for curve in sides), _MOST_DRAWS, _MOST_NUMBERS // widest)
    if not count:
        return {}
    return {"draws": {"count": count, **{curve.side: _columns(curve, count) for curve in sides}}}


def _columns(curve: Curve, count: int) -> Record:
    texts = {name: drawn_text(v[:count]) for name, v in curve.parameter_draws.items()}
    return {"rates": list(texts.values())} if curve.model == "table" else texts


def _own_range(curve: Curve, total: int) -> list[int]:
    """Return the least and the largest number of a side's own cores that were measured."""
    own = [total - c if curve.side == "compute" else c for c in curve.measured]
    return [min(own), max(own)]


def _side(curve: Curve) -> Record:
    if curve.model == "paper":
        return dict(curve.parameters)
    if curve.model == "table":
        cores = [int(count) for count in curve.parameters["cores"]]
        return {"model": "table", "cores": cores, "rates": curve.parameters["rates"]}
    return {"model": curve.model, **curve.parameters}


def write_curves(fit: Fit, path: str | Path) -> None:
    """Write a fit as a curve file.

    Raises
    ------
    FitError
        If no scenario could read the file (rates of extreme size).
    PlotError
        If the file cannot be written.
    """
    from ruamel.yaml import YAML  # only writing needs it

    yaml = YAML()
    yaml.default_flow_style = None  # short leaves in a row, the rest indented
    yaml.width = 100
    text = StringIO()
    text.write("# Curves fitted to a device trace; see provenance. Read by device: {curves: ..}.\n")
    yaml.dump(curve_document(fit), text)
    _check(text.getvalue(), path)
    write_output(path, text.getvalue().encode())


def _check(text: str, path: str | Path) -> None:
    """Refuse a fit whose file no scenario could read, by the reader's own rules."""
    try:
        curves_of(parse_yaml(text, str(path)))
    except FaultyFileError as error:
        raise FitError(f"the fitted curves are not legal in a scenario:\n{error}") from error


def _plain(value: object) -> Any:
    """Turn numpy values, tuples and dataframes' cells into YAML's own; round floats."""
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return None if not math.isfinite(value) else float(f"{value:.6g}")
    return value
