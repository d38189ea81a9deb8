"""Draws: uniform, independent of order, the same everywhere."""

import numpy as np
import pytest
from scipy import stats

from kdsim.model import random_streams as randomness


def test_draws_are_uniform():
    keys = randomness.stream_keys(1, np.arange(200), 0)
    sample = randomness.uniform(keys[:, None], np.arange(200, dtype=np.uint64)[None, :]).ravel()
    assert stats.kstest(sample, "uniform").pvalue > 1e-3
    assert sample.min() >= 0.0
    assert sample.max() < 1.0


def test_streams_of_neighbouring_seeds_and_replications_are_uncorrelated():
    counters = np.arange(20_000, dtype=np.uint64)
    streams = [
        randomness.uniform(randomness.stream_keys(seed, replication, stream), counters)
        for seed in (0, 1)
        for replication in (0, 1)
        for stream in (0, 1)
    ]
    correlation = np.corrcoef(streams) - np.eye(8)
    assert np.abs(correlation).max() < 5 / np.sqrt(20_000)
    for lag in (1, 2, 7):
        assert abs(np.corrcoef(streams[0][:-lag], streams[0][lag:])[0, 1]) < 5 / np.sqrt(20_000)


def test_keys_do_not_collide():
    keys = np.concatenate(
        [randomness.stream_keys(seed, np.arange(50_000), s) for seed in (0, 1) for s in (0, 1)]
    )
    assert np.unique(keys).size == keys.size


def test_draws_come_one_by_one_as_they_would_in_a_block():
    draws = randomness.Draws(3, 9)
    one_by_one = [draws() for _ in range(200)]
    key = randomness.stream_keys(3, 9, randomness.POLICY_STREAM)
    assert one_by_one == randomness.uniform(key, np.arange(200, dtype=np.uint64)).tolist()


def test_the_known_answers_of_splitmix64():
    # Seed 0 of the reference implementation: the first outputs of the published generator.
    known = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    drawn = randomness.uniform(np.zeros(1, np.uint64), np.arange(3, dtype=np.uint64))
    assert drawn.tolist() == [(value >> 11) * 2.0**-53 for value in known]


@pytest.mark.parametrize("cv", [0.1, 0.5, 1.5])
def test_noise_has_mean_one_and_the_coefficient_of_variation_asked_for(cv):
    factors = randomness.noise_factors(7, np.arange(4000), 100, cv)
    assert factors.mean() == pytest.approx(1.0, abs=6 * cv / np.sqrt(factors.size))
    assert factors.std() == pytest.approx(cv, rel=0.05)
    logs = (np.log(factors[:50]) + 0.5 * np.log1p(cv**2)) / np.sqrt(np.log1p(cv**2))
    assert stats.kstest(logs.ravel(), "norm").pvalue > 1e-3


def test_noise_depends_on_the_replication_and_not_on_its_company():
    many = randomness.noise_factors(7, np.arange(10), 30, 0.5)
    alone = randomness.noise_factors(7, 4, 30, 0.5)
    assert np.array_equal(many[4], alone[0])
