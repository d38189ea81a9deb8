from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_traces import synthetic

from calibration.fit import fit_trace
from calibration.validation.conditions import Condition, Scaled, parse_condition, scenario_of
from kdsim.errors import WorkloadError


@pytest.fixture(scope="module")
def fitted():
    return fit_trace(synthetic(4, noise=0.01), bootstrap=0)


def test_a_condition_reads_as_it_is_written():
    text = "2:1 link=0.2x starved=shared prefetch=1 release=0.5"
    condition = parse_condition(text)
    assert condition.label == text
    assert condition.link == Scaled(0.2, relative=True)
    assert condition.release == Scaled(0.5)


@given(
    st.sampled_from(["1:1", "2:1", "0.5:3"]),
    st.none() | st.builds(Scaled, st.floats(0.01, 100), st.booleans()),
    st.none() | st.integers(1, 9),
    st.none() | st.builds(Scaled, st.floats(0.01, 100), st.booleans()),
)
def test_every_label_is_read_back(ratio, link, prefetch, release):
    condition = Condition(ratio, link=link, prefetch=prefetch, release=release)
    assert parse_condition(condition.label).label == condition.label


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a ratio of times"),
        ("1", "a ratio of times like 2:1, got '1'"),
        ("1:0", "a ratio of times"),
        ("1:nan", "a ratio of times"),
        ("link=2 1:1", "a ratio of times"),
        ("1:1 lnik=2", "'lnik=2' is none of link=.., "),
        ("1:1 link", "'link' is none of"),
        ("1:1 link=fast", "link must be a number, got 'fast'"),
        ("1:1 link=-1", "link must be positive"),
        ("1:1 link=nan", "link must be positive"),
        ("1:1 link=1 link=2", "link is given twice"),
        ("1:1 prefetch=0", "prefetch must be at least 1"),
        ("1:1 prefetch=1.5", "prefetch must be a number"),
        ("1:1 link=1 starved=never", "starved must be idle or shared"),
        ("1:1 starved=shared", "need link=RATE"),
    ],
)
def test_what_is_no_condition_is_refused_with_the_reason(text, said):
    with pytest.raises(WorkloadError, match=said):
        parse_condition(text)


def test_times_on_all_cores_have_the_ratio_asked_for(fitted):
    r, q = fitted.communication.rates[-1], fitted.compute.rates[0]
    for text, comp_to_comm in (("1:1", 1.0), ("2:1", 2.0), ("1:4", 0.25)):
        condition = parse_condition(text)
        assert (condition.batches / q) / (condition.comm_mb(fitted) / r) == pytest.approx(
            comp_to_comm
        )


def test_over_a_slow_link_receiving_takes_as_long_as_asked_for(fitted):
    condition = parse_condition("1:1 link=0.1x")
    link = condition.link_rate(fitted)
    assert link == pytest.approx(0.1 * fitted.communication.rates[-1])
    assert condition.comm_mb(fitted) / link == pytest.approx(condition.cycle_s(fitted))


def test_a_condition_becomes_a_scenario_with_all_it_says(fitted):
    condition = parse_condition("2:1 link=0.2x starved=shared prefetch=2 release=0.5x")
    scenario = scenario_of(fitted, condition, 0.256)
    assert scenario.extensions.prefetch == 2
    assert scenario.extensions.release == pytest.approx(0.5 * condition.cycle_s(fitted))
    assert scenario.link.rate == pytest.approx(condition.link_rate(fitted))
    assert scenario.link.starved == "shared"
    assert scenario.workload.comm / 0.256 == pytest.approx(round(scenario.workload.comm / 0.256))
