"""Change one line of the code that matters most at a time, and see whether a test notices.

Each mutant is a fault that somebody could make: a sign, a bound, a forgotten term. It is put into
a copy of the tree, and the tests of that subject run there. A mutant that no test kills is a gap
in the tests: it is closed by a test, and the mutant stays in the list.

``python -m benchmarks.mutants`` from the root of the tree; ``--only WORD`` takes the mutants whose
file or text contains a word, ``--record FILE`` writes the table.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

os.environ.update(NUMBA_DISABLE_JIT="1", OMP_NUM_THREADS="1")

# Imported once, before the children that import the changed tree; nothing of ours is.
import hypothesis
import matplotlib.pyplot  # noqa: F401
import numpy  # noqa: F401
import pandas  # noqa: F401
import pytest
import scipy.optimize
import scipy.special
import scipy.stats  # noqa: F401
import simpy  # noqa: F401
import torch  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
#: What the tests read; the copy lacks everything else.
_COPIED = ("kdsim", "calibration", "tests", "scenarios", "pyproject.toml", "setup.cfg")
#: A mutant that makes a loop endless counts as killed: the tests would not have ended.
_LIMIT_S = 900
# Not shrunk: that a test fails is the answer. A slow machine is no fault.
hypothesis.settings.register_profile(
    "mutants",
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
_OPTIONS = (
    "-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--hypothesis-profile", "mutants",
    # Interpreted, the compiled loops are the same lines without a minute of compiling each;
    # their 64-bit counters then warn of the overflow that is meant.
    "-W", "ignore::RuntimeWarning",
    "-W", "ignore::pytest.PytestAssertRewriteWarning",  # imported before, see above
)  # fmt: skip


class Mutant(NamedTuple):
    """A line of a file, what it is changed to, and the tests that should notice."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]


_ENGINE_TESTS = "tests/kdsim/engines/"
_MODEL_TESTS = "tests/kdsim/model/"
_WORKLOAD_TESTS = "tests/calibration/workloads/"

_DES = (_MODEL_TESTS + "test_rules.py", _ENGINE_TESTS + "test_des.py")
# Interpreted, this one test takes minutes, and no line below is about threads.
_BATCH = (_ENGINE_TESTS + "test_batch.py", "-k", "not threads_and_chunks")
_LINK = (_ENGINE_TESTS + "test_link.py",)
_TIMED = (_ENGINE_TESTS + "test_timed.py", _MODEL_TESTS + "bound/test_timed_optimum.py")
_OPTIMUM = (_MODEL_TESTS + "bound/test_optimum.py",)
_CURVES = (_MODEL_TESTS + "test_curves.py",)
_INTERVALS = ("tests/kdsim/results/test_intervals.py",)
_FIT = ("tests/calibration/fit/test_fit.py",)
_LOSSES = (_WORKLOAD_TESTS + "test_losses.py",)
_EDGE = (
    _WORKLOAD_TESTS + "edge_kd/test_edge_kd.py",
    _WORKLOAD_TESTS + "edge_kd/test_knowledge.py",
)
_LOOPS = (_WORKLOAD_TESTS + "training/test_loops.py",)

_RULES_FILE = "kdsim/model/rules.py"
_OPTIMUM_FILE = "kdsim/model/bound/optimum.py"
_TIMED_FILE = "kdsim/model/bound/timed_optimum.py"
_CURVES_FILE = "kdsim/model/curves.py"
_KERNELS_FILE = "kdsim/engines/kernels.py"
_POOL_FILE = "kdsim/engines/core_pool.py"
_INTERVALS_FILE = "kdsim/results/intervals.py"
_MODELS_FILE = "calibration/fit/models.py"
_ESTIMATE_FILE = "calibration/fit/estimate.py"
_LOSSES_FILE = "calibration/workloads/losses.py"
_STUDENT_FILE = "calibration/workloads/edge_kd/student.py"
_KNOWLEDGE_FILE = "calibration/workloads/edge_kd/knowledge.py"
_LOOPS_FILE = "calibration/workloads/training/loops.py"

#: The list. `old` occurs once in its file.
MUTANTS = (
    # The policies' rules.
    Mutant(_RULES_FILE, "det = vr[high] * vq[low] - vr[low] * vq[high]",
           "det = vr[high] * vq[low] + vr[low] * vq[high]", _DES),
    Mutant(_RULES_FILE, "if vr[light] == 0.0 and dv > 0.0:",
           "if vr[light] == 0.0 and dv < 0.0:", _DES),
    Mutant(_RULES_FILE, "return 1 + int(draw * (c_total - 1))",
           "return int(draw * c_total)", _DES),
    Mutant(_RULES_FILE, "return int(draw * 2.0)", "return 1",
           _DES),
    Mutant(_RULES_FILE, "if time < best_time:", "if time <= best_time:", _DES),
    Mutant(_RULES_FILE, "time = max(comm * comm_times[c], comp * comp_times[c])",
           "time = comm * comm_times[c] + comp * comp_times[c]", _DES),
    Mutant(_RULES_FILE, "slack = ends[low] - now - needed",
           "slack = ends[low] - now", _TIMED),
    # The optimum.
    Mutant(_OPTIMUM_FILE, "L[..., bound - 1 : n - 1] = cycle_work[..., : n - bound]",
           "L[..., bound : n] = cycle_work[..., : n - bound]", _OPTIMUM),
    Mutant(_OPTIMUM_FILE, "U = cycle_work - plan.backward", "U = cycle_work.copy()", _OPTIMUM),
    Mutant(_OPTIMUM_FILE, "last = np.append(first[1:] - 1, n - 1) if first.size else first",
           "last = first", _OPTIMUM),
    Mutant(_OPTIMUM_FILE, "climb = bottom > top", "climb = False", _OPTIMUM),
    Mutant(_OPTIMUM_FILE, "if (top - y) * (V[k] - x) < (lower[k] - y) * (v - x):",
           "if False:", _OPTIMUM),
    Mutant(_OPTIMUM_FILE, 'arrive = np.searchsorted(path[:, 0], Q, side="left")',
           'arrive = np.searchsorted(path[:, 0], Q, side="right") - 1', _OPTIMUM),
    Mutant(_OPTIMUM_FILE,
           'return "lower bound" if noisy or plan.reallocation_cost > 0 else "optimum"',
           'return "lower bound" if noisy else "optimum"', (*_OPTIMUM, *_DES)),
    # Data that arrive in time.
    Mutant(_TIMED_FILE, "climb = tasks[3 * m - 1] + tasks[3 * m + 1]",
           "climb = tasks[3 * m - 1]", _TIMED),
    Mutant(_TIMED_FILE, "room = high - low", "room = high", _TIMED),
    Mutant(_TIMED_FILE, "begin[g] = max(clock + climbs[g], earliest[g])",
           "begin[g] = clock + climbs[g]", _TIMED),
    Mutant(_TIMED_FILE, "return plan.release * np.arange(1.0, plan.cycles + 1.0)",
           "return plan.release * np.arange(0.0, plan.cycles)", _TIMED),
    Mutant(_TIMED_FILE,
           "arrive = times[ahead - 1] + share * (times[ahead] - times[ahead - 1])",
           "arrive = times[ahead]", _TIMED),
    Mutant(_TIMED_FILE, "if 0 < prefetch <= m:", "if 0 < prefetch < m:", _TIMED),
    # Rates.
    Mutant(_CURVES_FILE, "ratio = reference_cores / c_total", "ratio = c_total / reference_cores",
           _CURVES),
    Mutant(_CURVES_FILE, "rate = b1 * c + b2 * np.log(b3 * c)",
           "rate = b1 * c + b2 * np.log(b3 + c)", _CURVES),
    Mutant(_CURVES_FILE, "rates[-1] = 0.0", "pass", _CURVES),
    Mutant(_CURVES_FILE, 'return v["rate1"] / (v["serial"] + (1.0 - v["serial"]) / p)',
           'return v["rate1"] / (v["serial"] + 1.0 / p)', _CURVES),
    Mutant(_CURVES_FILE, '+ v["kappa"] * p * (p - 1.0)))', '+ v["kappa"] * (p - 1.0)))', _CURVES),
    Mutant("kdsim/model/rate_region.py", "return bool(cross <= 1e-14 * scale)",
           "return bool(cross <= 0.0)", _CURVES),
    # The compiled engine and SimPy's core pool.
    Mutant(_KERNELS_FILE, "ready_at = release * (i + 1)", "ready_at = release * i", _BATCH),
    Mutant(_KERNELS_FILE, "i < prefetch or k // 2 > i - prefetch)",
           "i < prefetch or k // 2 >= i - prefetch)", _BATCH),
    Mutant(_KERNELS_FILE, "(k % 2 == 0 or i > k // 2)", "(k % 2 == 0 or i >= k // 2)", _BATCH),
    Mutant(_KERNELS_FILE, "if split >= 0:", "if split > 0:", _BATCH),
    Mutant(_KERNELS_FILE, "comm_scale = plan_comm[i] / comm_work if comm_work > 0 else 0.0",
           "comm_scale = 1.0", _BATCH),
    Mutant(_KERNELS_FILE, "held += (arriving - comm_rate) * step", "held += arriving * step",
           _LINK),
    Mutant(_POOL_FILE, "self._comm_ready = ready_at <= self._env.now", "self._comm_ready = True",
           _DES),
    Mutant(_POOL_FILE, "self._comp_scale = planned / work if work > 0 else 0.0",
           "self._comp_scale = 1.0", _DES),
    Mutant(_POOL_FILE, "(comp_done + 1) // 2,", "comp_done // 2,", _DES),
    Mutant(_POOL_FILE, "self._drain = buffer.held / (comm_rate - arriving)",
           "self._drain = buffer.held / comm_rate", _LINK),
    # Intervals.
    Mutant(_INTERVALS_FILE, "sd = float(x.std(ddof=1))", "sd = float(x.std())", _INTERVALS),
    Mutant(_INTERVALS_FILE, "student_t_quantile(0.5 + level / 2.0, n - 1)",
           "student_t_quantile(level, n - 1)", _INTERVALS),
    Mutant(_INTERVALS_FILE, "if 2 * below > 1.0 - level:", "if below > 1.0 - level:", _INTERVALS),
    Mutant(_INTERVALS_FILE, "return self.low > 0.0 or self.high < 0.0",
           "return self.low > 0.0", _INTERVALS),
    # Fits.
    Mutant(_MODELS_FILE, "b2 = max(b2, abs(first - b1) / _LARGEST_LN_B3)", "pass", _FIT),
    Mutant(_MODELS_FILE, "min(float(expit(v[1])), 1 - 1e-9) / last",
           "float(expit(v[1])) / last", _FIT),
    Mutant(_ESTIMATE_FILE, "np.maximum(own_scale, pooled)", "pooled", _FIT),
    Mutant(_ESTIMATE_FILE, 'loss="soft_l1"', 'loss="linear"', _FIT),
    Mutant(_ESTIMATE_FILE, "weight = 1.0 / np.sqrt(1.0 + ((values - centre) / _SOFT_SCALE) ** 2)",
           "weight = np.ones_like(values)", _FIT),
    Mutant(_ESTIMATE_FILE, "drawn = (resample or samples.resample)(rng).without_outliers()",
           "drawn = (resample or samples.resample)(rng)", _FIT),
    Mutant(_ESTIMATE_FILE, "return float(ndtr(math.sqrt(trials / (trials - 1)) * t))",
           "return float(ndtr(t))", _FIT),
    # Losses and eq. 1.
    Mutant(_LOSSES_FILE,
           "    return temperature**2 * _scale_factor(measure, scale) * value.mean()\n\n\n"
           "def decentralized_loss(",
           "    return _scale_factor(measure, scale) * value.mean()\n\n\ndef decentralized_loss(",
           _LOSSES),
    Mutant(_LOSSES_FILE, "return (log_q.exp() * (log_q - log_p)).sum(dim=-1)",
           "return (log_p.exp() * (log_p - log_q)).sum(dim=-1)", _LOSSES),
    Mutant(_LOSSES_FILE, "by_p = p * t * (2 - t) / 2", "by_p = p * t * (2 + t) / 2", _LOSSES),
    Mutant(_LOSSES_FILE, "value = torch.expm1(spread).mean() / (models - 1)",
           "value = torch.expm1(spread).mean() / models", _LOSSES),
    Mutant(_LOSSES_FILE, "return torch.logsumexp(logs, dim=0) - math.log(len(logits))",
           "return logs.mean(dim=0)", _LOSSES),
    Mutant(_STUDENT_FILE, "loss = loss + (1 - alpha) * self._distillation(cycle)",
           "loss = loss + alpha * self._distillation(cycle)", _EDGE),
    Mutant(_STUDENT_FILE, 'alpha = self._config.alpha if self._method != "none" else 1.0',
           "alpha = self._config.alpha", _EDGE),
    Mutant(_STUDENT_FILE, "temperature=self._config.temperature,", "temperature=1.0,", _EDGE),
    Mutant(_STUDENT_FILE, "first = self._shared.first_row(cycle)", "first = 0", _EDGE),
    # The training step.
    Mutant(_LOOPS_FILE, "            optimizer.zero_grad()", "            pass", _LOOPS),
    Mutant(_LOOPS_FILE, "measure.loss += value * measure.images[step]",
           "measure.loss += value * seen / len(losses)", _LOOPS),
    Mutant(_LOOPS_FILE, "set_rate(optimizer, config.rate_at(epoch))", "pass", _LOOPS),
    Mutant(_LOOPS_FILE, "    network.eval()", "    pass", _LOOPS),
)  # fmt: skip


def mutated(text: str, mutant: Mutant) -> str:
    """Return a file's text with the mutant in it; refuse one that does not name a single place."""
    if text.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.file}: found {text.count(mutant.old)} times: {mutant.old}")
    return text.replace(mutant.old, mutant.new)


def copy_tree(folder: Path) -> None:
    """Copy what the tests need."""
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)


class Noticed:
    """What pytest reports to: the tests that failed."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep the name of a test that failed."""
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        """Keep the name of a module that cannot be imported."""
        if report.failed:
            self.failed.append(report.nodeid)


def _answer(outlet: int, tree: Path, tests: Sequence[str]) -> NoReturn:
    """Run tests, in a child process; write how pytest ends and what failed first, and end."""
    answer = "raised"
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        if not os.environ.get("MUTANTS_VERBOSE"):
            os.dup2(silence, 2)
        signal.alarm(_LIMIT_S)  # ends the process: the parent reads an empty answer
        os.chdir(tree)
        sys.path.insert(0, str(tree))
        noticed = Noticed()
        code = pytest.main([*_OPTIONS, *tests], plugins=[noticed])
        answer = f"{int(code)} {' '.join(noticed.failed[:1])}"
    except BaseException:  # noqa: BLE001 - whatever it is, this process must end here
        traceback.print_exc()
    finally:
        os.write(outlet, answer.encode())
        os._exit(0)  # the parent's temporary folder must outlive this process


def first_failure(tree: Path, tests: Sequence[str]) -> str:
    """Run tests in a tree, in a child process; return the name of the first that fails, or ''."""
    inlet, outlet = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(inlet)
        _answer(outlet, tree, tests)
    os.close(outlet)
    with os.fdopen(inlet) as answers:
        answer = answers.read()
    os.waitpid(child, 0)
    code, _, name = answer.partition(" ")
    if code not in ("", "0", "1", "2"):
        raise SystemExit(f"{' '.join(tests)}: pytest ends with {code}")
    return name if answer else "no end in time"


def run(mutants: Sequence[Mutant]) -> list[tuple[Mutant, str]]:
    """Judge each mutant in one copied tree; the tests that failed pass without any mutant."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name)
        copy_tree(tree)
        for mutant in mutants:
            path = tree / mutant.file
            sound = path.read_text()
            path.write_text(mutated(sound, mutant))
            start = time.monotonic()
            killer = first_failure(tree, mutant.tests)
            path.write_text(sound)
            for stale in path.parent.glob(f"__pycache__/{path.stem}.*"):
                stale.unlink()
            found.append((mutant, killer))
            seconds = time.monotonic() - start
            print(f"{seconds:4.0f} s  {mutant.new[:60]!r}: {killer or 'ALIVE'}", flush=True)
        killers = sorted({killer for _, killer in found if "::" in killer})
        if killers and (failed := first_failure(tree, killers)):
            raise SystemExit(f"{failed} fails without any mutant, too: nothing is proven")
    return found


def table(found: list[tuple[Mutant, str]]) -> str:
    """Return the record as a Markdown table."""
    rows = ["| file | line | becomes | killed by |", "|---|---|---|---|"]
    for mutant, killer in found:
        old, new = (" ".join(text.split()).replace("|", "\\|") for text in (mutant.old, mutant.new))
        rows.append(f"| {mutant.file} | `{old}` | `{new}` | {killer or 'nothing'} |")
    killed = sum(bool(killer) for _, killer in found)
    day = datetime.date.today().isoformat()
    return f"{day}: {killed} of {len(found)} mutants killed.\n\n" + "\n".join(rows) + "\n"


def main() -> None:
    """Run the mutants that were asked for and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a word in the file's name or the text")
    parser.add_argument("--record", type=Path, help="write the table to this file")
    options = parser.parse_args()
    chosen = tuple(m for m in MUTANTS if options.only in f"{m.file} {m.old}")
    found = run(chosen)
    if options.record:
        options.record.write_text(table(found))
    print(f"{sum(not killer for _, killer in found)} of {len(found)} live")


if __name__ == "__main__":
    main()
