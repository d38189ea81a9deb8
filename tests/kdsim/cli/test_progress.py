"""The progress bar: silent when quick, when nobody looks, and when machines read."""

import io

import pytest

from kdsim.cli import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def to_terminal(monkeypatch):
    """Put a terminal at standard error; called in the test, as pytest resets the stream before."""

    def put():
        stream = Terminal()
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        return stream

    return put


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_quick_work_draws_nothing(to_terminal, clock):
    terminal = to_terminal()
    with progress.ProgressBar("runs") as tell:
        for i in range(1, 11):
            clock.now += 0.1
            tell(i, 10)
    assert terminal.getvalue() == ""


def test_what_is_being_done_now_stands_beside_the_title(to_terminal, clock):
    terminal = to_terminal()
    with progress.ProgressBar("measuring") as report:
        clock.now = 3.0
        report(1, 4, "compute alone at c = 2")
    assert "measuring: compute alone at c = 2" in terminal.getvalue()


def test_long_work_shows_how_far_it_is_and_when_it_ends(to_terminal, clock):
    terminal = to_terminal()
    with progress.ProgressBar("runs") as tell:
        clock.now = 3.0
        tell(30, 100)
        tell(60, 100)
    assert "runs" in terminal.getvalue()
    assert "60/100" in terminal.getvalue()
    assert "ETA" in terminal.getvalue()


def test_it_starts_early_when_the_work_will_be_long(to_terminal, clock):
    terminal = to_terminal()
    with progress.ProgressBar("runs") as tell:
        clock.now = 0.5
        tell(1, 100)
        clock.now = 1.0
        tell(2, 100)
    assert "2/100" in terminal.getvalue()


def test_nothing_done_yet_is_no_division_by_zero(to_terminal, clock):
    terminal = to_terminal()
    with progress.ProgressBar("runs") as tell:
        clock.now = 0.5
        tell(0, 100)
        assert terminal.getvalue() == ""  # nothing says that it will take long
        clock.now = 3.0
        tell(0, 100)
    assert "0/100" in terminal.getvalue()


def test_a_pipe_gets_no_bar(clock, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with progress.ProgressBar("runs") as tell:
        clock.now = 5.0
        tell(1, 100)
    assert stream.getvalue() == ""


def test_machines_get_no_bar(to_terminal, clock):
    terminal = to_terminal()
    with progress.ProgressBar("runs", enabled=False) as tell:
        clock.now = 5.0
        tell(1, 100)
    assert terminal.getvalue() == ""


def test_a_failure_stops_the_bar_and_goes_on(to_terminal, clock):
    terminal = to_terminal()

    def work():
        with progress.ProgressBar("runs") as tell:
            clock.now = 5.0
            tell(1, 100)
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        work()
    assert terminal.getvalue().endswith("\x1b[2K")  # nothing of the bar is left


def test_long_work_says_once_what_it_costs_even_where_nobody_sees_the_bar(clock, capsys):
    with progress.ProgressBar("runs", advice="use a store") as tell:
        clock.now = 1.0
        tell(1_000, 100_000)
        clock.now = 2.0
        tell(2_000, 100_000)
        clock.now = 3.0
        tell(3_000, 100_000)
    assert capsys.readouterr().err == "100,000 runs take about 1 min 40 s; use a store\n"


def test_waiting_for_the_first_step_is_not_taken_for_the_pace(clock, capsys):
    with progress.ProgressBar("runs", advice="use a store") as tell:
        clock.now = 20.0  # a compiler ran
        tell(1, 100)
        for done in range(2, 101):
            clock.now += 0.01
            tell(done, 100)
    assert capsys.readouterr().err == ""


def test_what_a_store_held_before_is_not_taken_for_the_pace(clock, capsys):
    with progress.ProgressBar("runs", advice="use a store") as tell:
        clock.now = 1.0
        tell(901, 1000)
        clock.now = 2.0
        tell(902, 1000)
    assert capsys.readouterr().err == "1,000 runs take about 1 min 40 s; use a store\n"


def test_work_of_some_seconds_gets_no_advice(clock, capsys):
    with progress.ProgressBar("runs", advice="use a store") as tell:
        clock.now = 3.0
        tell(30, 100)
    assert capsys.readouterr().err == ""
