"""How much the choice of a policy can matter on a plan, and what binds its optimum.

Communication alone, on all cores, takes ``t_comm`` seconds of CPU time, computation alone
``t_comp``. No schedule is faster than the longer of the two, and giving all cores to one side takes
their sum at most. So giving all cores to one side loses at most ``min(x, 1 - x) / max(x, 1 - x)``,
``x = t_comm / (t_comm + t_comp)``, whatever the curves; and so does every policy whose splits have
rates on or above the chord between all cores for one side and all for the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kdsim.model.plan import Plan

#: A resource binds the optimum if it alone would take at least this share of its time.
BINDING = 0.9
#: Rates this share below the chord are rounding.
_ON_CHORD = 1e-12


@dataclass(frozen=True)
class Stakes:
    """What the choice of a policy can be worth.

    Attributes
    ----------
    overlap : float
        x, communication's share of the CPU time that both sides need, each on all cores.
    limit : float
        Most that giving all cores to one side, or a split on or above the chord, can take longer
        than the optimum: 0.1 means 10 %. Noise and the time that reallocation costs are not in it.
    below_chord : tuple of int
        Core counts whose rates lie below the chord, where the limit does not hold.
    link_utilisation : float or None
        Share of the optimum's time in which the link has data to deliver; None without a link.
    binds : str
        What the optimum is made of: ``"link"``, ``"release"`` (the teacher), ``"communication"``,
        ``"computation"``, ``"cores"`` (both sides need them) or ``"precedence"``.
    share : float
        Share of the optimum's time that what binds would take without everything else.
    costs : bool
        Whether reallocations take time, which the limit leaves aside.
    pinned : bool
        Whether communication cores that wait for the link are lost to computation.
    """

    overlap: float
    limit: float
    below_chord: tuple[int, ...]
    link_utilisation: float | None
    binds: str
    share: float
    costs: bool = False
    pinned: bool = False

    @property
    def sentence(self) -> str:
        """One sentence for a reader who decides."""
        return " ".join([_limit_words(self), _binding_words(self)])

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, the sentence included."""
        return {
            "overlap": self.overlap,
            "limit": self.limit,
            "below_chord": list(self.below_chord),
            "link_utilisation": self.link_utilisation,
            "binds": self.binds,
            "share": self.share,
            "sentence": self.sentence,
        }


def stakes(plan: Plan, optimum: float) -> Stakes:
    """Say how much the choice of a policy can matter.

    Parameters
    ----------
    plan : Plan
        Planned work, one replication.
    optimum : float
        Its least makespan (or a lower bound), seconds, more than 0.

    Returns
    -------
    Stakes
    """
    data, work = float(plan.comm.sum()), float((plan.forward + plan.backward).sum())
    t_comm = data * float(plan.comm_unit_times[-1]) if data > 0 else 0.0
    t_comp = work * float(plan.comp_unit_times[0]) if work > 0 else 0.0
    arrived, waited_for = _earliest_communication(plan, t_comm)
    # Pinned cores that wait for the link are lost to computation; all else keeps the cores busy.
    pinned = plan.link is not None and plan.link.starved == "idle"
    one, other = (arrived if pinned else t_comm), t_comp
    limit = min(one, other) / max(arrived, t_comm, t_comp)
    both = float(plan.region.gauge(data, work))
    by_what = {
        "communication": t_comm >= (1 - 1e-9) * both,
        "computation": t_comp >= (1 - 1e-9) * both,
        "cores": True,
    }
    binds, share = next(name for name, holds in by_what.items() if holds), both / optimum
    if arrived > max(both, t_comm):
        binds, share = waited_for, arrived / optimum
    if share < BINDING:
        binds = "precedence"
    used = None
    if plan.link is not None:
        used = min(float(plan.link.arrival_time(data)) / optimum, 1.0)
    return Stakes(
        overlap=t_comm / (t_comm + t_comp),
        limit=limit,
        below_chord=_below_chord(plan),
        link_utilisation=used,
        binds=binds,
        share=min(share, 1.0),
        costs=plan.reallocation_cost > 0,
        pinned=pinned,
    )


def _earliest_communication(plan: Plan, t_comm: float) -> tuple[float, str]:
    """Return the earliest end of communication on all cores, and what delays it most."""
    unit, total = float(plan.comm_unit_times[-1]), float(plan.comm.sum())
    if total == 0:
        return 0.0, "communication"
    ends = {"communication": t_comm}
    if plan.release > 0:
        before = np.cumsum(plan.comm) - plan.comm
        releases = np.arange(1, plan.cycles + 1) * plan.release
        ends["release"] = float((releases + (total - before) * unit).max())
    if plan.link is not None:
        times, cumulative = plan.link.breakpoints(total)
        ends["link"] = float((times + (total - cumulative) * unit).max())
    latest = max(ends, key=lambda name: ends[name])
    return ends[latest], latest


def _below_chord(plan: Plan) -> tuple[int, ...]:
    all_comm, all_comp = plan.comm_rates[-1], plan.comp_rates[0]
    height = plan.comm_rates / all_comm + plan.comp_rates / all_comp
    return tuple(int(c) for c in np.flatnonzero(height < 1.0 - _ON_CHORD))


def _limit_words(s: Stakes) -> str:
    costs = "Without the time that reallocations cost, " if s.costs else ""
    share = f"communication is {_percent(s.overlap)} of the CPU time that both sides need"
    if s.pinned:
        share += ", but its cores wait for the link"
    if not s.below_chord:
        who = f"{costs}no policy" if costs else "No policy"
        longer = f"more than {_percent(s.limit)} longer than the fastest schedule"
        return f"{who} can take {longer}: {share}."
    who = f"{costs}giving" if costs else "Giving"
    return (
        f"{who} all cores to one side takes at most {_percent(s.limit)} longer than the fastest "
        f"schedule ({share}); splits that give communication {_counts(s.below_chord)} of the cores "
        "are worse than taking turns, and a policy that uses them can lose more."
    )


_BINDING_WORDS = {
    "link": "The link binds that schedule",
    "release": "The teacher's pace binds that schedule",
    "communication": "The CPU time of communication binds that schedule",
    "computation": "The CPU time of computation binds that schedule",
    "cores": "The cores, which both sides need, bind that schedule",
}


def _binding_words(s: Stakes) -> str:
    if s.binds == "precedence":
        words = (
            "The order of the tasks binds that schedule: no single resource accounts for more than "
            f"{_percent(s.share)} of it"
        )
    else:
        words = f"{_BINDING_WORDS[s.binds]} ({_percent(s.share)} of it)"
    if s.link_utilisation is not None and s.binds != "link":
        words += f"; the link is in use for {_percent(s.link_utilisation)} of the time"
    return words + "."


def _percent(share: float) -> str:
    digits = 0 if share >= 0.1 else 1 if share >= 0.01 or share == 0 else 2
    return f"{100 * share:.{digits}f} %"


def _counts(cores: tuple[int, ...]) -> str:
    if len(cores) <= 8:
        return ", ".join(map(str, cores))
    return f"{cores[0]} .. {cores[-1]} ({len(cores)} counts)"
