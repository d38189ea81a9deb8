"""What the verbs of `kdsim.api` say to arguments of a wrong kind."""

import pytest

import kdsim
from kdsim.errors import ScenarioError, StoreError, UnknownPolicyError

SECONDS = [0, -1.0, float("nan"), "3", None]


@pytest.mark.parametrize("value", [0, -1, "2", 1.5])
def test_threads_are_a_whole_number_from_one_on(value):
    for verb in (kdsim.compare, kdsim.simulate_many):
        policies = ["random"] if verb is kdsim.compare else "random"
        with pytest.raises(ScenarioError, match="threads: must be a whole number, at least 1"):
            verb("paper-1to1", policies, replications=2, threads=value)


@pytest.mark.parametrize("value", [-1, "2", 0.5])
def test_workers_are_a_whole_number(value):
    with pytest.raises(ScenarioError, match="workers: must be a whole number, at least 0"):
        kdsim.sweep("paper-1to1", policies=["greedy"], workers=value)


@pytest.mark.parametrize("value", SECONDS, ids=str)
def test_a_time_limit_is_a_positive_number_of_seconds(value):
    with pytest.raises(ScenarioError, match="task_timeout_s: must be a positive number of seconds"):
        kdsim.sweep("paper-1to1", policies=["greedy"], task_timeout_s=value)
    with pytest.raises(ScenarioError, match="limit_s: must be a positive number of seconds"):
        kdsim.check_policy("greedy", limit_s=value)


def test_a_static_policy_counts_in_the_digits_of_files():
    with pytest.raises(UnknownPolicyError, match="takes a whole number"):
        kdsim.simulate("paper-1to1", "static:\N{ARABIC-INDIC DIGIT THREE}")


def test_what_names_no_file_is_no_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="no file can have this name"):
        kdsim.Store.open("a\0b.sqlite", "w")
    with pytest.raises(TypeError):
        kdsim.Store.open(5, "w")
    assert not list(tmp_path.iterdir())
