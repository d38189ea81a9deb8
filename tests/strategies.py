"""Random legal devices and workloads for the property tests."""

import numpy as np
from hypothesis import strategies as st

from kdsim.model import curves
from kdsim.model.plan import Plan

amounts = st.floats(0.01, 10.0)
amounts_or_none = st.one_of(st.just(0.0), amounts)


@st.composite
def paper_rates(draw, max_cores=12):
    """Rates of the paper's two curves under random legal parameters."""
    c_total = draw(st.integers(1, max_cores))
    a1 = draw(st.floats(0.01, 10.0))
    # Legal up to the pole: 1 - a2*(c_total - 1) > 0.
    a2 = draw(st.floats(0.0, 0.99)) / max(c_total - 1, 1)
    # b1, b2 of either sign as long as the rate is positive for every core count.
    b2 = draw(st.floats(-0.5, 2.0))
    b3 = draw(st.floats(0.2, 20.0))
    c = np.arange(1, c_total + 1)
    least = float(np.max((0.02 - b2 * np.log(b3 * c)) / c))
    b1 = least + draw(st.floats(0.0, 2.0))
    q = curves.paper_compute_rates(a1, a2, c_total, c_total)
    r = curves.paper_communication_rates(b1, b2, b3, c_total)
    return r, q


@st.composite
def table_rates(draw, max_cores=8):
    """Arbitrary monotone rates: what a measured table may hold."""
    c_total = draw(st.integers(1, max_cores))
    own = st.lists(st.floats(0.05, 5.0), min_size=c_total, max_size=c_total)
    r = np.concatenate([[0.0], np.sort(draw(own))])
    q = np.concatenate([np.sort(draw(own))[::-1], [0.0]])
    return r, q


@st.composite
def plans(draw, rates=None, max_cycles=10, empty_tasks=True, prefetch=True):
    """A plan with unequal cycles, some of them empty, with or without bounded prefetch."""
    r, q = draw(rates if rates is not None else st.one_of(paper_rates(), table_rates()))
    n = draw(st.integers(1, max_cycles))
    amount = amounts_or_none if empty_tasks else amounts
    columns = [draw(st.lists(amount, min_size=n, max_size=n)) for _ in range(3)]
    if not any(map(sum, columns)):
        columns[0][0] = 1.0
    bound = draw(st.sampled_from([0, 0, 1, 2, 3, 5])) if prefetch else 0
    return Plan(*(np.array(column) for column in columns), r, q, prefetch=bound)
