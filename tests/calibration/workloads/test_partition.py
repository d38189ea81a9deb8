"""Splitting labelled data among clients."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.workloads.partition import (
    iid_partition,
    label_mix,
    primary_labels,
    skewed_partition,
)
from kdsim.errors import DataError

LABELS = np.random.default_rng(0).integers(0, 10, 30_000)


@given(
    labels=st.lists(st.integers(0, 12), max_size=60),
    clients=st.integers(1, 7),
    gamma=st.sampled_from([0.0, 0.5, 15.0, 1e9]),
    seed=st.integers(0, 2**32),
    per_client=st.one_of(st.none(), st.integers(0, 2)),
)
@settings(max_examples=200, deadline=None)
def test_each_sample_goes_to_exactly_one_client(labels, clients, gamma, seed, per_client):
    if labels and per_client is not None:
        per_client = min(per_client, max(labels) + 1)
    if not labels and per_client is not None:
        per_client = min(per_client, 1)
    parts = skewed_partition(labels, clients, gamma=gamma, seed=seed, primary=per_client)
    assert len(parts) == clients
    joined = np.concatenate(parts) if labels else np.empty(0)
    assert sorted(joined.tolist()) == list(range(len(labels)))
    assert all((np.diff(part) > 0).all() for part in parts)


@pytest.mark.parametrize("clients", [2, 3, 5])
@pytest.mark.parametrize("gamma", [1.0, 15.0])
def test_a_primary_client_gets_its_share_within_three_sigma(clients, gamma):
    expected = (1 + gamma) / (clients + gamma)
    primary = primary_labels(10, clients, seed=4)
    parts = skewed_partition(LABELS, clients, gamma=gamma, seed=4)
    drawn = kept = 0
    for client, chosen in enumerate(primary):
        for label in chosen:
            drawn += int((label == LABELS).sum())
            kept += int((LABELS[parts[client]] == label).sum())
    sigma = math.sqrt(expected * (1 - expected) / drawn)
    assert abs(kept / drawn - expected) < 3 * sigma


def test_secondary_labels_are_spread_evenly_over_the_other_clients():
    primary = [(0, 1, 2), (3, 4, 5), (6, 7, 8, 9)]
    parts = skewed_partition(LABELS, 3, gamma=15, seed=0, primary=primary)
    total = (LABELS == 0).sum()
    for client in (1, 2):
        share = (LABELS[parts[client]] == 0).sum() / total
        assert abs(share - 1 / 18) < 3 * math.sqrt(1 / 18 / total)


def test_gamma_zero_is_the_even_shuffle():
    skewed = skewed_partition(LABELS, 3, gamma=0, seed=7)
    even = iid_partition(LABELS, 3, seed=7)
    assert all((a == b).all() for a, b in zip(skewed, even, strict=True))
    assert [len(part) for part in even] == [10_000] * 3
    for part in even:
        assert np.abs(label_mix(LABELS[part], 10) - label_mix(LABELS, 10)).max() < 0.01


def test_the_same_seed_gives_the_same_split_and_another_another():
    first, again = (skewed_partition(LABELS, 3, gamma=15, seed=1) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    other = skewed_partition(LABELS, 3, gamma=15, seed=2)
    assert any(len(a) != len(b) or (a != b).any() for a, b in zip(first, other, strict=True))


def test_the_global_random_state_is_neither_read_nor_moved():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = skewed_partition(LABELS, 3, gamma=15, seed=1)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    np.random.seed(99)  # noqa: NPY002
    second = skewed_partition(LABELS, 3, gamma=15, seed=1)
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    "labels", [np.zeros(100_000, int), np.arange(20_000), np.array([], int), np.full(50_000, 999)]
)
def test_degenerate_labels_take_no_retries(labels):
    start = time.process_time()
    parts = skewed_partition(labels, 5, gamma=1e12, seed=0)
    assert sum(map(len, parts)) == len(labels)
    assert time.process_time() - start < 5.0  # a bound against endless redrawing, not a benchmark


def test_sizes_are_respected_by_both_splits():
    even = iid_partition(LABELS, 3, seed=0, sizes=[3, 2, 1])
    assert [len(part) for part in even] == [15_000, 10_000, 5_000]
    parts = skewed_partition(LABELS, 2, gamma=1e-12, seed=0, sizes=[3, 1])
    assert len(parts[0]) / len(LABELS) == pytest.approx(0.75, abs=0.01)


@given(classes=st.integers(2, 40), clients=st.integers(1, 12), seed=st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_by_default_each_label_is_primary_for_one_client(classes, clients, seed):
    chosen = primary_labels(classes, clients, seed=seed)
    assert sorted(label for labels in chosen for label in labels) == list(range(classes))
    sizes = [len(labels) for labels in chosen]
    assert max(sizes) - min(sizes) <= 1


@given(classes=st.integers(2, 40), clients=st.integers(1, 12), data=st.data())
@settings(max_examples=100, deadline=None)
def test_m_primary_labels_a_client_cover_all_labels_before_any_is_shared(classes, clients, data):
    per_client = data.draw(st.integers(0, classes))
    chosen = primary_labels(classes, clients, per_client=per_client, seed=3)
    assert all(len(set(labels)) == per_client for labels in chosen)
    counts = np.bincount([x for labels in chosen for x in labels], minlength=classes)
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: skewed_partition([0, 1], 2, gamma=-1, seed=0), "gamma"),
        (lambda: skewed_partition([0, 1], 2, gamma=float("nan"), seed=0), "gamma"),
        (lambda: skewed_partition([0, -1], 2, gamma=1, seed=0), "negative"),
        (lambda: skewed_partition([0.5, 1.0], 2, gamma=1, seed=0), "integers"),
        (lambda: skewed_partition([0, 1], 0, gamma=1, seed=0), "at least 1"),
        (lambda: skewed_partition([0, 1], 2, gamma=1, seed=0, sizes=[1]), "2 positive"),
        (lambda: skewed_partition([0, 1], 2, gamma=1, seed=0, primary=[[0]]), "1 clients"),
        (lambda: primary_labels(3, 2, per_client=4, seed=0), "between 0 and the 3"),
        (lambda: label_mix([], 3), "without samples"),
    ],
)
def test_bad_input_is_told_in_words(call, told):
    with pytest.raises(DataError, match=told):
        call()
