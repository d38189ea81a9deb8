"""Accuracy over time, predicted and measured: the same edge-KD run live under policies and links.

    python benchmarks/learning_validation.py            # record profiles, predict, run, judge
    python benchmarks/learning_validation.py --judge    # from the recorded runs alone

Digits, a teacher process, knowledge of a layer (features) in one chunk of 0.26 MB per cycle. First
each policy's run without a link is recorded as a cost profile, the median of three in turns. Then
the moment of each epoch's end under each policy and link is predicted by `kdsim.learning_curves`
from the profile of ANOTHER policy, and written. Then the loop is run for real behind a paced link,
in random order, each cell until it has three undisturbed runs or the budget ends. Lands in
`benchmarks/results/validation/DEVICE/learning/`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from validation import ROOT, default_folder, fitted_curves, show_progress, write_json

if __name__ != "__mp_main__":  # the bench's processes run this file again, and need none of it
    import numpy as np
    import pandas as pd

    import kdsim
    from calibration.machine.cores import take_cores
    from calibration.machine.disturbance import GUARD, wait_for_calm
    from calibration.machine.host import fingerprint
    from calibration.workloads.edge_kd.cloud import prepare_teacher
    from calibration.workloads.edge_kd.config import EdgeConfig
    from calibration.workloads.edge_kd.study import EdgeRun, run_once, save_profile
    from kdsim.scenario.parts.profile import read_profile
    from kdsim.scenario.validate import scenario_from_data

    CONFIG = EdgeConfig(batch=64, private_images=64, epochs=12)

#: Each is predicted from the profile of the one before it.
POLICIES = ("comm-priority", "comp-priority", "greedy")
#: Seconds in which the link delivers a cycle's knowledge, per second of computing the cycle.
LINKS = {"fast": 0.6, "slow": 2.0}
METHOD, SEED, WANTED = "feature", 0, 3
#: Runs of which one becomes a policy's profile: one alone carries the speed of its minute.
PROFILES = 3


def scenario(folder: Path, rate: float | None):
    """Describe the device: the student computes on one core, one worker receives a chunk.

    Compute units are seconds of one core, so that a profile's seconds are its work.
    """
    total = len(take_cores(None))
    one_worker = float(fitted_curves(folder.parent).communication.rates[1])
    own = list(range(1, total + 1))
    table = {"model": "table", "cores": own}
    document: dict[str, Any] = {
        "name": "edge KD on digits",
        "device": {
            "cores": total,
            "compute": {**table, "rates": [1.0] * total},
            "communication": {**table, "rates": [one_worker] * total},
        },
        "workload": {"cycles": 1, "comm": 1.0, "forward": 1.0, "backward": 1.0},
    }
    if rate is not None:
        document["link"] = {"rate": rate, "starved": "idle"}
    return scenario_from_data(document)


def live(folder: Path, knowledge: Path, policy: str, rate: float | None) -> EdgeRun:
    """Run the real loop once."""
    plan = scenario(folder, rate).plan()
    wait_for_calm(take_cores(None), GUARD, 10.0)
    return run_once(CONFIG, METHOD, SEED, knowledge, policy=policy,
                    rates=(plan.comm_rates, plan.comp_rates), link=plan.link)  # fmt: skip


def disturbed(run: EdgeRun) -> bool:
    """Whether others took too much of the CPU meanwhile."""
    return run.taken is None or run.taken.disturbs()


def record_profiles(folder: Path, knowledge: Path) -> None:
    """Record each policy's run without a link in turns; the one of median length stands."""
    missing = [p for p in POLICIES if not (folder / f"profile-{p}.csv").exists()]
    made: dict[str, list[EdgeRun]] = {policy: [] for policy in missing}
    for number in range(PROFILES):
        for policy in missing:
            show_progress(number, PROFILES, f"profile under {policy}")
            made[policy].append(live(folder, knowledge, policy, None))
    for policy, runs in made.items():
        clean = [run for run in runs if not disturbed(run)] or runs
        typical = sorted(clean, key=lambda run: run.live.makespan)[len(clean) // 2]
        save_profile(typical, CONFIG, METHOD, SEED, folder / f"profile-{policy}.csv")


def rates_of(folder: Path) -> dict[str, float]:
    """Return the links' MB/s, from what computing a cycle took when the profiles were recorded."""
    profile = read_profile(folder / f"profile-{POLICIES[0]}.csv")
    cycle_s = float(np.median(profile.forward_s + profile.backward_s))
    mb = float(profile.downlink_bytes.max()) / 1e6
    return {name: float(f"{mb / (share * cycle_s):.4g}") for name, share in LINKS.items()}


def predict(folder: Path) -> pd.DataFrame:
    """Predict the end of each epoch and its accuracy, from another policy's profile."""
    rows = []
    for name, rate in rates_of(folder).items():
        for place, policy in enumerate(POLICIES):
            other = POLICIES[place - 1]
            found = kdsim.learning_curves(
                scenario(folder, rate), [folder / f"profile-{other}.csv"], [policy]
            ).rows
            rows += [
                {"link": name, "link_mb_s": rate, "policy": policy, "profile_under": other,
                 "cycle": row["cycle"], "predicted_s": row["mean"],
                 "predicted_accuracy": row["accuracy"]}
                for row in found
            ]  # fmt: skip
    return pd.DataFrame(rows)


def write_predictions(folder: Path) -> pd.DataFrame:
    """Write the predictions once; later calls must predict the same."""
    path, found = folder / "predictions.csv", predict(folder)
    text = found.to_csv(index=False, float_format="%.6g")
    if not path.exists():
        path.write_text(text)
    elif path.read_text() != text:
        raise SystemExit(f"{path} holds other predictions; measure into another folder (--out)")
    return found


def measure(folder: Path, knowledge: Path, ends: float) -> None:
    """Run each (link, policy) until it has the wanted undisturbed runs, or until `ends`."""
    path = folder / "runs.jsonl"
    rates, order = rates_of(folder), np.random.default_rng(SEED)
    cells = [(name, policy) for name in rates for policy in POLICIES]
    while True:
        made = read_runs(path)
        have = {cell: sum(not r["disturbed"] and (r["link"], r["policy"]) == cell for r in made)
                for cell in cells}  # fmt: skip
        missing = [cell for cell in cells if have[cell] < WANTED]
        if not missing:
            return
        for index in order.permutation(len(missing)):
            if time.monotonic() >= ends:
                return
            name, policy = missing[index]
            show_progress(sum(have.values()), WANTED * len(cells), f"{policy}, {name} link")
            run = live(folder, knowledge, policy, rates[name])
            finished = run.live.task_ends("backward")
            row = {
                "link": name, "policy": policy, "disturbed": disturbed(run),
                "taken": asdict(run.taken) if run.taken else None, "makespan": run.live.makespan,
                "epochs": [[cycle, round(finished[cycle - 1], 6), value]
                           for cycle, value in sorted(run.accuracies.items())],
                "forward_ends": [round(end, 6) for end in run.live.task_ends("forward")],
                "comm_ends": [round(end, 6) for end in run.live.task_ends("comm")],
            }  # fmt: skip
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")


def read_runs(path: Path) -> list[dict[str, Any]]:
    """Read the runs made so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def judge(folder: Path) -> dict[str, Any]:
    """Set every undisturbed run's epochs beside the predictions; write the table and the figure."""
    predicted, runs = write_predictions(folder), read_runs(folder / "runs.jsonl")
    rows = []
    for number, run in enumerate(runs):
        if run["disturbed"]:
            continue
        mine = predicted[(predicted["link"] == run["link"]) &
                         (predicted["policy"] == run["policy"])]  # fmt: skip
        for (cycle, seconds, accuracy), row in zip(
            run["epochs"], mine.to_dict("records"), strict=True
        ):
            if cycle != row["cycle"]:
                raise ValueError(f"run {number}: epoch at cycle {cycle}, predicted {row['cycle']}")
            rows.append({**row, "run": number, "measured_s": seconds, "measured_accuracy": accuracy,
                         "error": row["predicted_s"] / seconds - 1})  # fmt: skip
    table = pd.DataFrame(rows)
    if table.empty:
        return {"epochs": 0, "runs": len(runs), "disturbed": len(runs)}
    table.to_csv(folder / "epochs.csv", index=False, float_format="%.6g")
    errors = table["error"].abs()
    by_cell = table.assign(error=errors).groupby(["link", "policy"])["error"]
    spread = by_cell.agg(["median", "max"]).reset_index().to_dict("records")
    summary = {
        "epochs": len(table),
        "runs": len(runs),
        "disturbed": sum(run["disturbed"] for run in runs),
        "within_10_percent": float((errors <= 0.10).mean()),
        "median_absolute_error": float(errors.median()),
        "p95_absolute_error": float(errors.quantile(0.95)),
        "worst_absolute_error": float(errors.max()),
        "accuracies_that_differ": int(
            (~np.isclose(table["predicted_accuracy"], table["measured_accuracy"])).sum()
        ),
        "largest_difference_of_accuracy": float(
            (table["predicted_accuracy"] - table["measured_accuracy"]).abs().max()
        ),
        "by_cell": spread,
    }
    write_json(folder / "summary.json", summary)
    draw(predicted, table).savefig(folder / "learning.png", dpi=120)
    return summary


def draw(predicted: pd.DataFrame, table: pd.DataFrame):
    """Draw accuracy over time: predicted as lines, every measured run as markers."""
    from matplotlib.figure import Figure

    from kdsim.plots.style import BLUE, GREEN, VERMILION

    links = list(dict.fromkeys(predicted["link"]))
    figure = Figure(figsize=(9.5, 4.2), layout="constrained")
    axes = figure.subplots(1, len(links), sharey=True, squeeze=False)[0]
    for ax, link in zip(axes, links, strict=True):
        for policy, colour, marker in zip(POLICIES, (VERMILION, BLUE, GREEN), "os^", strict=True):
            line = predicted[(predicted["link"] == link) & (predicted["policy"] == policy)]
            ax.plot(line["predicted_s"], line["predicted_accuracy"], color=colour, lw=1.2,
                    label=f"{policy}, predicted")  # fmt: skip
            seen = table[(table["link"] == link) & (table["policy"] == policy)]
            ax.plot(seen["measured_s"], seen["measured_accuracy"], marker, color=colour, mfc="none",
                    ms=6, label=f"{policy}, measured")  # fmt: skip
        ax.set_title(f"link of {line['link_mb_s'].iloc[0]:g} MB/s", loc="left")
        ax.set_xlabel("time since the run began (s)")
    axes[0].set_ylabel("test accuracy at the end of each epoch")
    axes[0].legend(frameon=False, fontsize="small", loc="lower right")
    return figure


def main() -> int:
    """Record, predict, run and judge; status 1 if the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder [default: by the device's name]")
    parser.add_argument("--minutes", type=float, default=8.0, help="of this call at most")
    parser.add_argument("--judge", action="store_true", help="judge the recorded runs, make none")
    arguments = parser.parse_args()
    ends = time.monotonic() + 60 * arguments.minutes - 20
    os.chdir(ROOT)
    folder = (arguments.out or default_folder()) / "learning"
    folder.mkdir(parents=True, exist_ok=True)
    if not arguments.judge:
        with tempfile.TemporaryDirectory() as place:
            knowledge = Path(place)
            prepare_teacher(CONFIG, knowledge)
            record_profiles(folder, knowledge)
            write_predictions(folder)
            measure(folder, knowledge, ends)
        write_json(folder / "manifest.json", {
            "config": asdict(CONFIG), "method": METHOD, "seed": SEED, "links": rates_of(folder),
            "runs_wanted": WANTED, "guard": GUARD, "host": fingerprint(),
        })  # fmt: skip
    summary = judge(folder)
    print(json.dumps(summary, indent=1))
    return int(summary.get("within_10_percent", 0.0) < 0.9)


if __name__ == "__main__":
    sys.exit(main())
