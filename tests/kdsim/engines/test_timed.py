"""Release times and links under the engines: `optimal` attains the timed optimum, none beats it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import Sequence, play
from timed_program import timed_plan

from kdsim.model.bound.optimum import minimal_makespan
from kdsim.policies.names import POLICY_NAMES

any_plan = st.integers(0, 10**6).map(timed_plan)


@given(any_plan)
@settings(deadline=None, max_examples=200)
def test_optimal_attains_the_timed_optimum(plan):
    assert play(plan, "optimal")[0] == pytest.approx(minimal_makespan(plan).makespan, rel=1e-9)


@given(any_plan, st.sampled_from([*POLICY_NAMES, "static:1"]))
@settings(deadline=None, max_examples=150)
def test_no_policy_beats_the_timed_optimum(plan, policy):
    assert play(plan, policy)[0] >= minimal_makespan(plan).makespan * (1 - 1e-9)


@given(
    any_plan,
    st.lists(
        st.one_of(st.integers(0, 8), st.tuples(st.integers(0, 8), st.floats(0.01, 2.0))),
        min_size=1,
        max_size=30,
    ),
)
@settings(deadline=None, max_examples=150)
def test_no_core_sequence_beats_the_timed_optimum(plan, answers):
    assert play(plan, Sequence(answers))[0] >= minimal_makespan(plan).makespan * (1 - 1e-9)


@given(any_plan)
@settings(deadline=None, max_examples=60)
def test_the_state_based_rule_on_the_clock_stays_near_the_optimum(plan):
    # Whole splits that change only at completions cannot mix: over 600 such plans it lost 3.8 % at
    # most, where the rule without a clock lost 16 % and Algorithm 1 up to 330 %.
    makespan = play(plan, "state-based")[0]
    assert makespan <= minimal_makespan(plan).makespan * 1.15
