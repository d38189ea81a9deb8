"""A device of the library: its rates over its cores, as measured and as scenarios use them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from kdsim._types import RecordView
from kdsim.plots.style import INK, MUTED, add_marks, new_panels, title
from kdsim.scenario.parts.device import Device

_COMPUTE, _COMMUNICATION = "#2b4a8c", "#d0743c"


def library_device(name: str, entry: RecordView, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Draw a device of the library.

    Parameters
    ----------
    entry : mapping
        From `kdsim.scenario.files.library.library_device`.
    axes : sequence of Axes, optional
        One for computation and, where the device has a stand-in for it, one for communication.
    """
    facts = entry["provenance"]
    proxy = facts.get("communication_proxy")
    drawn = new_panels(axes, 2 if proxy else 1, 4.6, 3.6)
    _compute(drawn[0], entry)
    title(drawn[0], f"{name}: computation")
    if proxy:
        _communication(drawn[1], proxy)
        title(drawn[1], "communication: a stand-in")
    add_marks(drawn, list(entry["proxies"].values()), own=axes is None)
    return list(drawn)


def own_core_rates(entry: RecordView) -> tuple[np.ndarray, np.ndarray]:
    """Return (cores, rates) of an entry's compute curve over the range that was measured."""
    total = entry["reference_cores"]
    stand_in = {"b1": 1.0, "b2": 0.0, "b3": 1.0}
    device = Device.model_validate(
        {
            "cores": total,
            "reference_cores": total,
            "compute": entry["compute"],
            "communication": stand_in,
            "measured_cores": entry["measured_cores"],
            "extrapolate": True,
        }
    )
    least = entry["measured_cores"]["compute"][0]
    cores = np.arange(least, total + 1)
    return cores, device.compute_rates(total)[total - cores]


def _compute(ax: Axes, entry: RecordView) -> None:
    points = entry["provenance"]["points"]
    cores, rates = own_core_rates(entry)
    ax.plot(cores, rates, color=_COMPUTE, label=f"{entry['provenance']['model']} form")
    middle = np.array(points["rate"])
    ends = np.abs(np.array([points["low"], points["high"]]) - middle)
    ax.errorbar(
        points["own_cores"], middle, yerr=ends, fmt="none", ecolor=_COMPUTE, capsize=2.5,
        label="95 % CI over networks",
    )  # fmt: skip
    ax.plot(points["own_cores"], points["measured"], "o", color=INK, markersize=4, label="measured")
    ax.set(xlabel="compute cores", ylabel="network passes per second", ylim=(0, None))
    ax.legend(frameon=False, fontsize="small")


def _communication(ax: Axes, proxy: RecordView) -> None:
    ax.fill_between(
        proxy["own_cores"], proxy["low"], proxy["high"], color=_COMMUNICATION, alpha=0.2,
        label="anything in here",
    )  # fmt: skip
    ax.plot(proxy["own_cores"], proxy["rate"], color=_COMMUNICATION, label="used by scenarios")
    ax.set(xlabel="communication cores", ylabel="MB per second", yscale="log")
    ax.tick_params(labelcolor=MUTED)
    ax.legend(frameon=False, fontsize="small")
