"""Write the device library: one curve file per device, and nothing in it typed by hand.

The files are ordinary curve files in JSON (which is YAML too): ``device: {library: NAME}`` reads
them from the package of scenarios, ``device: {curves: PATH}`` reads a copy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from calibration.devices.measurements import (
    HERE,
    NCNN_LOG,
    MeasuredDevice,
    measured_devices,
    network_sizes,
    read_catalogue,
)
from calibration.devices.receiving import YARDSTICK, Receiver, measured_receiver
from calibration.devices.scaling import LEVEL, RESAMPLES, ScalingCurve, fit_device
from calibration.fit.estimate import TABLE
from calibration.importing.ncnn import read_ncnn
from kdsim._types import Record, RecordView
from kdsim.output_file import write_output
from kdsim.scenario.files.yaml_document import read_yaml
from kdsim.scenario.load import CURVES_VERSION
from kdsim.scenario.parts.curve_draws import drawn_text

COMPUTE_PROXY = "inference proxy: compute rates are from inference in ncnn, not from training"
COMMUNICATION_PROXY = (
    "communication proxy: another machine's receiver, scaled to this device, which was not measured"
)
#: Of the raw files; they travel with what is made of them.
LICENCES = {"LICENSE-ncnn.txt": "ncnn/LICENSE.txt", "LICENSE-sbc-bench.txt": "sbc-bench/LICENSE"}
_DIGITS = 5
#: Draws of each side's parameters that a file keeps, of the resamples behind the intervals.
DRAWS = 100


def make_library(
    folder: Path, *, resamples: int = RESAMPLES, progress: Callable[[str], None] | None = None
) -> list[Path]:
    """Rebuild every file of the library.

    Parameters
    ----------
    folder : Path
        Where to; its other ``.json`` files are removed.
    resamples : int
        Of networks, behind every interval.
    progress : callable, optional
        Called with the name of each device before it is fitted.

    Raises
    ------
    TraceError, FitError
        If the raw files or the catalogue are damaged.
    PlotError
        If a file cannot be written.
    """
    devices = measured_devices(read_ncnn(NCNN_LOG), read_catalogue())
    sizes = network_sizes(devices)
    receiver = measured_receiver()
    yardstick = next(d for d in devices if d.entry.name == YARDSTICK)
    pace = _one_core_pace(yardstick, sizes)
    source = _source()
    written = []
    for device in devices:
        if progress:
            progress(device.entry.name)
        curve = fit_device(device, sizes, resamples=resamples)
        document = device_document(device, curve, sizes, receiver, pace, source)
        path = folder / f"{device.entry.name}.json"
        write_output(path, (_dump(document) + "\n").encode())
        written.append(path)
    for name, licence in LICENCES.items():
        write_output(folder / name, (HERE / "raw" / licence).read_bytes())
    for stale in set(folder.glob("*.json")) - set(written):
        stale.unlink()
    return written


def device_document(
    device: MeasuredDevice,
    curve: ScalingCurve,
    sizes: Mapping[str, float],
    receiver: Receiver,
    yardstick_pace: float,
    source: RecordView,
) -> Record:
    """Return one device as the plain values of a curve file."""
    counts = device.counts
    proxies, communication = {"compute": COMPUTE_PROXY}, {}
    receiving: Record = {}
    draws: Record = {"count": DRAWS, "compute": _compute_draws(curve)}
    if counts[0] == 1:
        ratio = float(curve.measured[0]) / yardstick_pace
        middle, low, high = receiver.rates(ratio, counts[-1])
        proxies["communication"] = COMMUNICATION_PROXY
        communication = {
            "communication": {
                "model": "amdahl",
                "rate1": receiver.rate1 * ratio,
                "serial": receiver.serial,
            }
        }
        draws["communication"] = {
            name: drawn_text(values) for name, values in receiver.draws(ratio, DRAWS).items()
        }
        receiving = {
            "communication_proxy": {
                "receiver": "epyc-2core", "yardstick": YARDSTICK, "pace_ratio": ratio,
                "factor": receiver.factor, "boards": receiver.boards,
                "own_cores": list(range(1, counts[-1] + 1)),
                "rate": middle, "low": low, "high": high,
            }
        }  # fmt: skip
    return {
        "kdsim_curves": CURVES_VERSION,
        "reference_cores": counts[-1],
        "measured_cores": {"compute": [counts[0], counts[-1]]},
        "compute": _side(curve),
        **communication,
        "proxies": proxies,
        "draws": draws,
        "provenance": {
            "device": device.heading,
            "cores": device.entry.cores,
            "note": device.entry.note,
            "source": {**source, "lines": list(device.lines)},
            "units": {"compute": _unit(sizes), "communication": "MB (1e6 bytes)"},
            "networks": list(device.networks),
            "powersave": list(device.entry.powersave),
            "variant": device.entry.variant,
            "more_threads_than_cores": list(device.oversubscribed),
            "points": {
                "own_cores": list(counts), "measured": curve.measured, "rate": curve.rates,
                "low": curve.low, "high": curve.high,
            },
            "interval": f"{LEVEL:.0%}, over networks ({RESAMPLES} resamples of whole networks)",
            "model": curve.model,
            "reasons": list(curve.reasons),
            "model_table": _model_table(curve),
            **receiving,
        },
    }  # fmt: skip


def _compute_draws(curve: ScalingCurve) -> Record:
    columns = {name: drawn_text(values[:DRAWS]) for name, values in curve.draws.parameters.items()}
    return {"rates": list(columns.values())} if curve.model == TABLE else columns


def _unit(sizes: Mapping[str, float]) -> str:
    return (
        f"one forward pass of an average network (geometric mean of {len(sizes)} float32 networks; "
        f"ResNet-18 is {sizes['resnet18']:.2f} of it, ResNet-50 {sizes['resnet50']:.2f})"
    )


def _one_core_pace(device: MeasuredDevice, sizes: Mapping[str, float]) -> float:
    weights = np.array([sizes[name] for name in device.networks])
    return float(np.exp(-np.mean(np.log(device.seconds[:, 0] / weights))))


def _side(curve: ScalingCurve) -> Record:
    if curve.model == "paper":
        return dict(curve.parameters)
    if curve.model == TABLE:
        cores = [int(count) for count in curve.parameters["cores"]]
        return {"model": TABLE, "cores": cores, "rates": list(curve.parameters["rates"])}
    return {"model": curve.model, **curve.parameters}


def _model_table(curve: ScalingCurve) -> list[Record]:
    if curve.table.empty:
        return []
    columns = ["model", "k", "rms_log_error", "delta_aicc", "held_out_error", "verdict"]
    return [{str(k): v for k, v in row.items()} for row in curve.table[columns].to_dict("records")]


def _source() -> Record:
    data: Any = read_yaml(HERE / "raw" / "sources.yaml").data
    found = dict(data["ncnn"])
    found.pop("file")
    return {**found, "sha256": hashlib.sha256(NCNN_LOG.read_bytes()).hexdigest()}


def _dump(document: RecordView) -> str:
    """Write JSON with a line per field of the first two levels: small, and readable in a diff."""
    fields = []
    for key, value in _plain(document).items():
        text = json.dumps(value, ensure_ascii=False)
        if key == "provenance":
            inner = [
                f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in value.items()
            ]
            text = "{\n" + ",\n".join(inner) + "\n }"
        fields.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(fields) + "\n}"


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None
    return value
