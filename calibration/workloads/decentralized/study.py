"""The dissimilarity study: five measures, two cases, a grid of alpha, iid and skewed data.

A *run* is one decentralised training (``decentralized``) under one split, case, measure, alpha and
seed. Runs are independent, kept in a ledger as they finish, and paired by seed: all runs of a seed
share data, initial weights and batch orders. Runs with alpha = 1 exchange nothing; one serves all
measures and cases.

What is *not* here: the settings of a study (``dissimilarity_config``), claims and figures drawn
from its rows (``dissimilarity_report``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from calibration.workloads.data.datasets import Dataset
from calibration.workloads.data.splits import split
from calibration.workloads.decentralized.cohort import Material, Progress, Result
from calibration.workloads.decentralized.config import (
    NOT_EXCHANGING,
    Study,
    Unit,
    plan_of,
    units,
)
from calibration.workloads.decentralized.processes import run_in_processes
from calibration.workloads.decentralized.run import Plan, run_decentralized
from calibration.workloads.partition import primary_labels, skewed_partition
from calibration.workloads.records.profile import CycleCost, write_profile
from calibration.workloads.records.results import ResultError, RunLedger, manifest
from kdsim._types import Record
from kdsim.errors import DataError


def material(study: Study, dataset: Dataset, which: str, seed: int) -> Material:
    """Draw and split the data of one run.

    Private and public samples come from the training part and are disjoint; the test samples
    come from the test part and are the same for every seed.

    Raises
    ------
    DataError
        If the data set is too small, or a client would get no sample.
    """
    parts = split(
        dataset, teacher=0, student=study.private_samples, stream=study.public_samples, seed=seed
    )
    if not 0 < study.test_samples <= len(parts.test):
        raise DataError(
            f"{dataset.name} has {len(parts.test)} test images; {study.test_samples} were asked for"
        )
    labels = dataset.labels("train", parts.student).numpy()
    shares = skewed_partition(
        labels,
        study.clients,
        gamma=study.gamma if which == "skew" else 0.0,
        seed=seed,
        primary=primary_labels(
            dataset.classes, study.clients, per_client=study.primary_per_client, seed=seed
        ),
        sizes=study.sizes,
    )
    chosen = np.sort(np.random.default_rng(0).permutation(parts.test)[: study.test_samples])
    return Material(
        shares=[
            (
                dataset.images("train", parts.student[share]),
                dataset.labels("train", parts.student[share]),
            )
            for share in shares
        ],
        public=dataset.images("train", parts.stream),
        test=(dataset.images("test", chosen), dataset.labels("test", chosen)),
        classes=dataset.classes,
    )


def run_study(
    study: Study,
    dataset: Dataset,
    ledger: RunLedger,
    *,
    processes: bool = False,
    profiles: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Record]:
    """Do the runs of a study that its ledger does not hold yet, and return all rows.

    Parameters
    ----------
    ledger : RunLedger
        Finished runs; each new one is added as it ends. A run that lost a client which was not
        meant to leave is not finished: it is returned, marked, and made again by the next call.
    processes : bool
        One operating-system process per client instead of one for all.
    profiles : path, optional
        Folder for the cost profiles of the first seed, see :func:`profiled`.
    progress : callable, optional
        Called with the rounds done and the rounds in all.

    Returns
    -------
    list of dict
        See :func:`rows`.

    Raises
    ------
    ResultError
        If the ledger belongs to another study.
    DataError, WorkloadError
        From a run.
    """
    _claim(ledger, study, dataset)
    todo = units(study)
    missing = [unit for unit in todo if unit.name not in ledger]
    total, done = len(todo) * study.rounds, (len(todo) - len(missing)) * study.rounds
    data: tuple[tuple[str, int], Material] | None = None
    broken: dict[str, Record] = {}
    for unit in missing:
        if data is None or data[0] != (unit.split, unit.seed):
            data = (unit.split, unit.seed), material(study, dataset, unit.split, unit.seed)
        before = done

        def on_round(rounds: int, before: int = before) -> None:
            if progress is not None:
                progress(before + rounds, total)

        plan = plan_of(study, unit)
        kept = profiles if profiled(study, unit) else None
        if kept is not None:  # accuracies at the ends of the first client's epochs
            plan = replace(plan, evaluate_every=_epoch_rounds(len(data[1].shares[0][1]), study))
        result = run_unit(data[1], plan, processes=processes, progress=on_round)
        done += study.rounds
        row = row_of(unit, result, study.rounds)
        if lost := unplanned_losses(result, plan):
            broken[unit.name] = {**row, "lost": lost}
            continue
        if kept is not None:
            save_profile(kept, study, unit, result)
        ledger.add(unit.name, row)
    if progress is not None:
        progress(total, total)
    return rows(study, ledger, broken)


def unplanned_losses(result: Result, plan: Plan) -> list[int]:
    """Return the clients that a run lost although its plan did not let them leave."""
    planned = dict(plan.departures)
    return [
        d.client
        for d in result.departures
        if d.reason != "left" or planned.get(d.client) != d.round
    ]


def run_unit(
    data: Material, plan: Plan, *, processes: bool = False, progress: Progress | None = None
) -> Result:
    """Do one run, in this process or with a process for each client."""
    if processes:
        return run_in_processes(data, plan, progress=progress)
    return run_decentralized(data, plan, progress=progress)


def row_of(unit: Unit, result: Result, rounds: int) -> Record:
    """Turn a run's result into a JSON-ready row, without timings: equal seeds give equal rows."""
    shared = [a.shared for a in result.accuracies]
    private = [a.private for a in result.accuracies]
    return {
        **asdict(unit),
        "shared": _rounded(float(np.mean(shared))),
        "shared_sd": _rounded(_spread(shared)),
        "private": _rounded(float(np.mean(private))),
        "private_sd": _rounded(_spread(private)),
        "bytes_per_round": result.traffic.total / rounds,
        "clients": [
            {
                "client": a.client,
                "samples": a.samples,
                "shared": _rounded(a.shared),
                "private": _rounded(a.private),
                "recalls": [_rounded(r) for r in a.recalls],
            }
            for a in result.accuracies
        ],
        "departures": [asdict(d) for d in result.departures],
    }


def rows(
    study: Study, ledger: RunLedger, broken: Mapping[str, Record] | None = None
) -> list[Record]:
    """Return the rows of all finished runs; one with alpha = 1 stands for each measure and case.

    Rows of `broken` runs are among them, with the clients that they `lost`.
    """
    found = []
    known = {**(broken or {}), **ledger.runs}
    for unit in units(study):
        if unit.name not in known:
            continue
        row = known[unit.name]
        if unit.measure != NOT_EXCHANGING:
            found.append(row)
            continue
        found += [
            {**row, "case": case, "measure": measure}
            for case in study.cases
            for measure in study.measures
        ]
    return found


def profiled(study: Study, unit: Unit) -> bool:
    """Return whether a run's cost profile is kept: first seed, last split, alpha nearest 0.5."""
    exchanging = [a for a in study.alphas if a < 1]
    if unit.alpha == 1 or not exchanging:
        return False
    typical = min(exchanging, key=lambda a: abs(a - 0.5))
    return (unit.seed, unit.split, unit.alpha) == (study.seeds[0], study.splits[-1], typical)


def save_profile(folder: Path, study: Study, unit: Unit, result: Result) -> Path:
    """Write what each round cost the first client, for the simulator; return the file."""
    costs, accuracy = result.costs[0], result.accuracies[0]
    share = _epoch_rounds(accuracy.samples, study)
    last = len(costs.comm_bytes) - 1
    known = {**dict(costs.accuracies), last + 1: accuracy.shared}
    cycles = [
        CycleCost(
            cycle=i + 1,
            epoch=i // share + 1,
            downlink_bytes=costs.comm_bytes[i],
            uplink_bytes=None,  # as much as the others receive; not counted apart
            forward_s=costs.forward_s[i],
            backward_s=costs.backward_s[i],
            cores=costs.cores,
            accuracy=known.get(i + 1),
        )
        for i in range(last + 1)
    ]
    path = folder / f"profile-{unit.split}-{unit.case}-{unit.measure}.csv"
    write_profile(
        path,
        cycles,
        workload="dissimilarity",
        method=f"{unit.case}/{unit.measure}/alpha={unit.alpha:g}",
        seed=unit.seed,
        notes={
            "client": accuracy.client,
            "cycle": "one round: predictions received, one step; forward_s includes judging for "
            "the other clients",
        },
    )
    return path


def _epoch_rounds(samples: int, study: Study) -> int:
    """Return the rounds in which a client sees as many samples as it has."""
    return math.ceil(samples / study.batch)


def study_manifest(study: Study, dataset: Dataset) -> Record:
    """Describe everything the rows depend on."""
    return manifest(
        asdict(study),
        seeds=study.seeds,
        dataset=dataset,
        notes=[
            f"each client trains {study.network} "
            + ("from random weights" if study.weights is None else "from the weights of a file")
            + ", where the paper fine-tunes a pretrained ResNet-18; "
            + ("private images are flipped and shifted" if study.augment else "no augmentation"),
            "predictions are compared on "
            + (
                "a public unlabelled pool, disjoint from all private data"
                if study.distil_on == "public"
                else "each learner's own batch"
            ),
            "private accuracy weighs each class's recall on the test data by the client's label "
            "mix; shared accuracy weighs all classes equally",
        ],
    )


def _claim(ledger: RunLedger, study: Study, dataset: Dataset) -> None:
    """Mark a new ledger with its study, or refuse one that belongs to another study.

    The grid may grow between calls: more seeds, measures or alphas do not change a run.
    """
    identity = _identity(study) | {"data": dataset.name, "sha256": dataset.digest}
    if "study" not in ledger:
        if ledger.runs:
            raise ResultError(f"{ledger.path} holds runs of an unknown study; name another folder")
        ledger.add("study", identity)
        return
    # A setting that an older ledger does not name had its default.
    known = _identity(Study()) | ledger.runs["study"]
    for key, value in identity.items():
        if known.get(key) != value:
            raise ResultError(
                f"{ledger.path} belongs to another study: {key} was {known.get(key)!r}, "
                f"now {value!r}; name another folder or repeat the options"
            )


def _identity(study: Study) -> Record:
    """Return what each run of a study depends on, as a ledger holds it."""
    grid = {"measures", "cases", "alphas", "splits", "seeds"}
    settings = {k: v for k, v in asdict(study).items() if k not in grid}
    if study.weights is not None:  # the content counts, not where it lies
        settings["weights"] = study.weights.sha256
    plain: Record = json.loads(json.dumps(settings))  # as the ledger gives it back
    return plain


def _spread(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _rounded(value: float) -> float:
    return round(float(value), 6)
