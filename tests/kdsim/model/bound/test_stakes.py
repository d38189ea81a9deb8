"""How much a policy can matter: the limit holds for every policy, and what binds is found."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import Sequence, play
from strategies import plans

import kdsim
from kdsim.model.bound.optimum import minimal_makespan
from kdsim.model.bound.stakes import stakes
from kdsim.model.link import Link
from kdsim.model.plan import Plan

links = st.sampled_from(
    [
        None,
        Link.constant(0.4),
        Link.constant(0.4, "shared"),
        Link(np.array([0.0, 3.0, 9.0]), np.array([2.0, 0.0, 0.3]), 12.0),
        Link(np.array([0.0, 3.0, 9.0]), np.array([0.0, 2.0, 0.3]), 12.0, "shared"),
    ]
)


def least(plan):
    """Return a makespan that no schedule goes below: each side alone, and the bound of both."""
    nothing = np.zeros(plan.cycles)
    alone = [
        minimal_makespan(plan).makespan,
        (plan.forward + plan.backward).sum() / plan.comp_rates[0],
    ]
    if plan.comm.any():
        alone.append(play(plan.with_work(plan.comm, nothing, nothing), "comm-priority")[0])
    return max(alone)


@given(plans(), links, st.lists(st.integers(0, 12), min_size=1, max_size=20))
@settings(deadline=None, max_examples=300)
def test_no_policy_goes_beyond_the_limit(plan, link, cores):
    plan = replace(plan, link=link)
    worth = stakes(plan, minimal_makespan(plan).makespan)
    on_chord = [c for c in cores if min(c, plan.c_total) not in worth.below_chord] or [0]
    for policy in ("comm-priority", "comp-priority", Sequence(on_chord)):
        makespan = play(plan, policy)[0]
        assert makespan <= (1 + worth.limit) * least(plan) * (1 + 1e-9)


def test_the_limit_is_that_of_the_overlap_share():
    plan = kdsim.load_scenario("paper-1to1").plan()
    worth = stakes(plan, minimal_makespan(plan).makespan)
    t_comm, t_comp = 50 / plan.comm_rates[-1], 100 / plan.comp_rates[0]
    x = t_comm / (t_comm + t_comp)
    assert worth.overlap == pytest.approx(x)
    assert worth.limit == pytest.approx(min(x, 1 - x) / max(x, 1 - x))
    assert worth.below_chord == ()
    assert worth.sentence.startswith("No policy can take more than 41 % longer than the fastest")


def of_one_kind(comm_rates, comp_rates, *, y, x, **more):
    rates = (np.array(comm_rates, dtype=float), np.array(comp_rates, dtype=float))
    plan = Plan(np.full(200, y), np.full(200, x / 2), np.full(200, x / 2), *rates, **more)
    return stakes(plan, minimal_makespan(plan).makespan)


@pytest.mark.parametrize(
    ("plan", "binds", "used"),
    [
        ({"y": 1.0, "x": 1.0}, "cores", None),
        ({"y": 0.0, "x": 1.0}, "computation", None),
        ({"y": 1.0, "x": 0.0}, "communication", None),
        ({"y": 1.0, "x": 1.0, "link": Link.constant(0.05)}, "link", 1.0),
        ({"y": 1.0, "x": 1.0, "link": Link.constant(50.0)}, "cores", 0.015),
        ({"y": 1.0, "x": 1.0, "release": 9.0}, "release", None),
    ],
)
def test_what_binds_the_optimum_is_found(plan, binds, used):
    # Half of the cores each: both sides at three quarters of their speed.
    worth = of_one_kind([0, 0.75, 1], [1, 0.75, 0], **plan)
    assert worth.binds == binds
    assert worth.share == pytest.approx(1.0, rel=0.02)
    if used is None:
        assert worth.link_utilisation is None
    else:
        assert worth.link_utilisation == pytest.approx(used, rel=0.3)


def test_where_no_resource_is_busy_the_order_of_tasks_binds():
    one = np.ones(1)
    # Communication and computation could be in parallel, but one cycle has to do them in turn.
    plan = Plan(one, np.zeros(1), one, np.array([0.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.0]))
    worth = stakes(plan, minimal_makespan(plan).makespan)
    assert worth.binds == "precedence"
    assert worth.share == pytest.approx(0.5)
    assert "no single resource accounts for more than 50 %" in worth.sentence


def test_splits_below_the_chord_are_named():
    worth = of_one_kind([0, 0.2, 1], [1, 0.2, 0], y=1.0, x=1.0)
    assert worth.below_chord == (1,)
    assert "splits that give communication 1 of the cores" in worth.sentence


def test_a_comparison_has_a_sentence_for_each_point():
    made = kdsim.compare("measured-logits", ["comm-priority", "optimal"])
    assert [point["link.rate"] for point, _ in made.stakes] == [0.18, 4.5, 125.0]
    assert [worth.binds for _, worth in made.stakes] == ["link", "cores", "cores"]
    data = made.to_dict()["stakes"]
    assert data[0]["sentence"] == made.stakes[0].stakes.sentence
    assert data[0]["link.rate"] == 0.18
