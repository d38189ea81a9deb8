"""A scenario on the devices that its measurements support as well: one per bootstrap draw."""

from __future__ import annotations

from kdsim.errors import ScenarioError
from kdsim.messages import whole_number
from kdsim.scenario.parts.curve_draws import MAX_DRAWS
from kdsim.scenario.study import Scenario
from kdsim.scenario.validate import scenario_from_data

#: Fewer draws have no interval.
LEAST_DRAWS = 2


def check_draws(scenario: Scenario, count: int) -> int:
    """Return how many draws were asked for, if the scenario's curves have so many.

    Raises
    ------
    ScenarioError
        If `count` is no whole number from 2 on, or the curves have fewer draws.
    """
    wanted = whole_number(count, "curve_draws", LEAST_DRAWS, MAX_DRAWS)
    if scenario.device.draws is None:
        scenario.device.drawn(0)  # says why there are none
    elif scenario.device.draws.count < wanted:
        raise ScenarioError(
            f"the curves have {scenario.device.draws.count} bootstrap draws, fewer than the "
            f"{wanted} asked for (curve_draws)",
            field="device.curves",
        )
    return wanted


def drawn_sides(scenario: Scenario) -> tuple[str, ...]:
    """List the sides whose curves have draws; the others stay as they are in every draw."""
    draws = scenario.device.draws
    sides = ("compute", "communication")
    return tuple(side for side in sides if draws is not None and getattr(draws, side) is not None)


def drawn_scenario(scenario: Scenario, index: int) -> Scenario:
    """Return the scenario on the device of one draw of its curves; see `Device.drawn`.

    Parameters
    ----------
    scenario : Scenario
        Without regard to its sweep.
    index : int
        Number of the draw, from 0 on.
    """
    data = {name: getattr(scenario, name) for name in Scenario.model_fields}
    del data["sweep"], data["design"]
    data["device"] = scenario.device.drawn(index)
    return scenario_from_data(data, files=scenario.files)
