"""The progress bar: silent when quick, when nobody looks, and when machines read."""

import io

import pytest

from kdsim.cli import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def play(clock, steps, title="runs", **options):
    """Report steps of (second, done, of) one after the other."""
    with progress.ProgressBar(title, **options) as report:
        for clock.now, *facts in steps:
            report(*facts)


def drawn(monkeypatch, stream, *arguments, **options):
    """Return what the steps leave at standard error, from inside the test: pytest resets it."""
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    play(*arguments, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([(3.0, 30, 100), (3.0, 60, 100)], ["runs", "60/100", "ETA"]),
        ([(0.5, 1, 100), (1.0, 2, 100)], ["2/100"]),  # early: the work will be long
        ([(0.5, 0, 100), (3.0, 0, 100)], ["0/100"]),  # no division by zero
        ([(3.0, 1, 4, "compute alone at c = 2")], ["runs: compute alone at c = 2"]),
    ],
)
def test_long_work_shows_how_far_it_is(clock, monkeypatch, steps, words):
    shown = drawn(monkeypatch, Terminal(), clock, steps)
    assert all(word in shown for word in words)


QUICK = [(0.1 * i, i, 10) for i in range(1, 11)]
LONG = [(5.0, 1, 100)]


@pytest.mark.parametrize(
    ("stream", "steps", "options"),
    [
        (Terminal, QUICK, {}),
        (Terminal, [(0.5, 0, 100)], {}),  # nothing says that it will take long
        (io.StringIO, LONG, {}),
        (Terminal, LONG, {"enabled": False}),
    ],
    ids=["quick", "unknown", "a pipe", "for machines"],
)
def test_nothing_is_drawn_of_quick_work_nor_where_nobody_looks(
    clock, monkeypatch, stream, steps, options
):
    assert drawn(monkeypatch, stream(), clock, steps, **options) == ""


def test_a_failure_stops_the_bar_and_goes_on(clock, monkeypatch):
    terminal = Terminal()
    with pytest.raises(TypeError):
        drawn(monkeypatch, terminal, clock, [*LONG, (6.0, "boom", None)])
    assert terminal.getvalue().endswith("\x1b[2K")  # nothing of the bar is left


@pytest.mark.parametrize(
    ("steps", "advice"),
    [
        ([(1.0, 1_000, 100_000), (2.0, 2_000, 100_000), (3.0, 3_000, 100_000)], "100,000"),
        ([(1.0, 901, 1000), (2.0, 902, 1000)], "1,000"),  # a store held the first 900
        ([(20.0, 1, 100), *((20 + 0.01 * k, k, 100) for k in range(2, 101))], None),  # a compiler
        ([(3.0, 30, 100)], None),  # some seconds
    ],
)
def test_long_work_says_once_what_it_costs_even_where_nobody_sees_the_bar(
    clock, capsys, steps, advice
):
    play(clock, steps, advice="use a store")
    wanted = f"{advice} runs take about 1 min 40 s; use a store\n" if advice else ""
    assert capsys.readouterr().err == wanted
