"""The timed optimum against linear programming, against the string, and as a schedule."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import plans
from timed_program import timed_plan, timed_program

from kdsim.model.bound import timed_optimum
from kdsim.model.bound.optimum import minimal_makespan
from kdsim.model.bound.timed_optimum import timed_makespan, timed_path
from kdsim.model.link import Link
from kdsim.model.plan import Plan

FAST = 100
seeds = [pytest.param(s, marks=[pytest.mark.slow] * (s >= FAST)) for s in range(0, 800, 20)]


@pytest.mark.parametrize("first", seeds)
def test_the_timed_optimum_is_the_linear_programs(first):
    for seed in range(first, first + 20):
        plan = timed_plan(seed)
        answer = minimal_makespan(plan).makespan
        assert answer == pytest.approx(timed_program(plan), rel=1e-9), f"timed_plan({seed})"


@given(plans())
@settings(deadline=None, max_examples=200)
def test_without_release_and_link_it_is_the_taut_strings_length(plan):
    assert timed_makespan(plan) == pytest.approx(minimal_makespan(plan).makespan, rel=1e-12)


@given(plans(), st.sampled_from(["idle", "shared"]))
@settings(deadline=None)
def test_a_link_that_never_delays_changes_nothing(plan, starved):
    linked = replace(plan, link=Link.constant(1e12, starved))
    without = minimal_makespan(plan).makespan
    assert minimal_makespan(linked).makespan == pytest.approx(without, rel=1e-9)


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=60)
def test_later_logits_and_slower_links_never_help(seed):
    plan = timed_plan(seed)
    least = minimal_makespan(plan).makespan
    assert minimal_makespan(replace(plan, link=None)).makespan <= least * (1 + 1e-12)
    assert minimal_makespan(replace(plan, release=0.0)).makespan <= least * (1 + 1e-12)
    assert minimal_makespan(replace(plan, prefetch=0)).makespan <= least * (1 + 1e-12)


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=150)
def test_the_schedule_keeps_every_rule_of_the_model(seed):
    plan = timed_plan(seed)
    path = timed_path(plan)
    best = minimal_makespan(replace(plan, release=plan.release or 1e-12))  # the timed schedule
    ends = [piece.start + piece.duration for piece in best.schedule]
    assert ends[-1] == pytest.approx(best.makespan, rel=1e-9)
    assert [piece.start for piece in best.schedule[1:]] == pytest.approx(ends[:-1])
    total = best.makespan
    done = np.cumsum(path.data)
    if plan.link is not None:
        arrival = plan.link.arrival_time(done * (1 - 1e-12))
        assert (path.end >= arrival - 1e-9 * total).all()
    first = np.append(0, np.flatnonzero(path.rest == 0.0)[:-1] + 1)
    releases = plan.release * np.arange(1, plan.cycles + 1)
    assert (path.begin[first] >= releases - 1e-9 * total).all()
    work = np.cumsum(plan.forward + plan.backward)
    ceiling = np.repeat(work - plan.backward, np.diff(np.append(first, path.data.size)))
    scale = 1e-9 * (work[-1] + 1.0)
    assert (path.arrive <= ceiling + scale).all()
    assert (path.leave >= np.append(0.0, path.arrive[:-1]) - scale).all()
    if plan.prefetch:
        held = np.arange(plan.prefetch, plan.cycles)
        assert (path.leave[first[held]] >= work[held - plan.prefetch] - scale).all()
    assert best.path[-1] == pytest.approx([done[-1], work[-1]], rel=1e-9)
    lengths = plan.region.gauge(path.data, path.arrive - path.leave)
    assert (path.end - path.begin >= lengths - 1e-9 * total).all()


@pytest.mark.parametrize("seed", range(12))
def test_the_compiled_pass_gives_the_interpreted_ones_bits(seed, monkeypatch):
    plan = timed_plan(seed)
    plain = timed_path(plan)
    monkeypatch.setattr(timed_optimum, "COMPILE_FROM", 0)
    for ours, compiled in zip(plain, timed_path(plan), strict=True):
        assert np.array_equal(ours, compiled)


def test_identical_cycles_over_a_slow_link_have_a_closed_form():
    # The link is the slowest part: everything but the last Backward hides behind it.
    n, rate = 10, 0.25
    r, q = np.array([0.0, 4.0, 8.0]), np.array([4.0, 2.0, 0.0])
    plan = Plan(np.ones(n), np.ones(n), np.ones(n), r, q, link=Link.constant(rate))
    assert minimal_makespan(plan).makespan == pytest.approx(n / rate + 1.0 / 4.0, rel=1e-12)


def test_a_comm_that_ends_where_an_outage_begins_does_not_wait_for_its_end():
    # 0.1 three times is not 0.3 in floating point; the outage lasts 100 s.
    r, q = np.array([0.0, 50.0]), np.array([50.0, 0.0])
    link = Link(np.array([0.0, 0.3, 100.3]), np.array([1.0, 0.0, 1.0]))
    plan = Plan(np.full(3, 0.1), np.full(3, 0.1), np.full(3, 0.1), r, q, link=link)
    assert minimal_makespan(plan).makespan < 1.0
