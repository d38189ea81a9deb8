"""How policies look: the same everywhere, and no two alike in one figure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdsim import plots
from kdsim.plots.style import ordered_style, policy_style
from kdsim.policies.names import POLICY_NAMES

names = st.lists(
    st.integers(0, 40).map("static:{}".format) | st.text(min_size=1, max_size=4), unique=True
)


@given(names.map(lambda some: some[:42]))
def test_no_two_policies_of_a_figure_share_colour_and_marker(some):
    looks = [(s.color, s.marker) for s in (policy_style(name, some) for name in some)]
    assert len(set(looks)) == len(looks)


@given(names.map(lambda some: some[:7]))
def test_no_two_of_a_few_policies_share_a_colour(some):
    others = [name for name in some if name not in ("random", "greedy", "optimal")]
    colors = [policy_style(name, others).color for name in others]
    assert len(set(colors)) == len(colors)


@pytest.mark.parametrize("count", [1, 4, 7, 12, 30])
def test_no_two_core_counts_share_a_colour(count):
    colors = [ordered_style(k, count)[0] for k in range(count)]
    assert len(set(colors)) == count


def test_built_in_policies_differ_in_colour_and_in_marker():
    styles = [plots.policy_style(name) for name in POLICY_NAMES]
    assert len({style.color for style in styles}) == len(styles)
    assert len({style.marker for style in styles}) == len(styles)


def test_a_users_policy_looks_the_same_whatever_stands_beside_it():
    alone = plots.policy_style("mine:Best")
    assert alone == plots.policy_style("mine:Best", ["mine:Best", "other:Policy", "random"])
