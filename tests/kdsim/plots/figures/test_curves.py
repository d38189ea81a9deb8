"""The curves of a device, and the points they were fitted to."""

import numpy as np
import pytest
from drawn_study import legend_of, lines_of

import kdsim
from kdsim import plots
from kdsim.errors import PlotError
from kdsim.scenario.changes import with_fields


def test_curves_are_the_times_of_unit_work(scenario):
    f, g = plots.curves(scenario, [4, 6])
    (line,) = lines_of(f, "6")
    rates = scenario.device.compute_rates(6)
    for comp_cores, seconds in zip(line.get_xdata(), line.get_ydata(), strict=True):
        assert seconds == pytest.approx(1.0 / rates[6 - comp_cores])
    assert sorted(line.get_xdata()) == [1, 2, 3, 4, 5, 6]
    (line,) = lines_of(g, "4")
    assert sorted(line.get_xdata()) == [0, 1, 2, 3]  # without a core it never ends
    b1, b2, b3 = 0.05, 0.3, 2.0
    slowest = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))[3]
    assert slowest == pytest.approx(1 / (b1 + b2 * np.log(b3)))


def test_the_curves_are_the_cores_whatever_the_link(scenario):
    slow = with_fields(scenario, {"link.rate": 0.5})
    (line,) = lines_of(plots.curves(slow, [4])[1], "4")
    (free,) = lines_of(plots.curves(scenario, [4])[1], "4")
    assert line.get_ydata().tolist() == free.get_ydata().tolist()


def test_curves_default_to_the_swept_core_counts():
    f, _ = plots.curves(kdsim.load_scenario("paper-1to1"))
    assert legend_of(f) == ["6 cores", "8 cores", "10 cores", "12 cores"]


def test_curves_leave_out_only_the_core_counts_nobody_asked_for():
    bent = {"b1": -0.3, "b2": 1.0, "b3": 3.0}  # its rate falls below 0 at 12 cores
    scenario = kdsim.Scenario(
        name="bent",
        device={"cores": 2, "compute": {"a1": 1.0, "a2": 0.5}, "communication": bent},
        workload={"cycles": 2, "comm": 1.0, "forward": 1.0, "backward": 1.0},
    )
    f, _ = plots.curves(scenario)
    assert legend_of(f) == ["2 cores", "6 cores", "8 cores", "10 cores"]
    with pytest.raises(PlotError, match="do not reach 12 cores"):
        plots.curves(scenario, [12])
    with pytest.raises(PlotError, match="whole numbers from 1"):
        plots.curves(scenario, [0])


def test_measured_points_carry_their_intervals(scenario):
    point = plots.CurvePoint("compute", 4, 1, 2.5, 2.25, 3.0)
    f, g = plots.curves(scenario, [4], points=[point])
    (bars,) = f.containers
    assert bars.lines[0].get_xydata().tolist() == [[3.0, 2.5]]
    assert bars.lines[2][0].get_segments()[0][:, 1].tolist() == [2.25, 3.0]
    assert not g.containers
