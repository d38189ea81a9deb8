"""How the policies that plan do where no optimum is known: reallocation cost, noise, and both.

Devices and workloads are drawn as in ``paper_claims.py``; half of them get unequal cycles, half a
bounded prefetch. Per device: noise up to a coefficient of variation of 0.5, a reallocation cost of
up to 0.3 of a cycle. Every policy meets the same draws. `optimal` and `state-based` are set against
the best other built-in policy, and, harder, against the best of all constant splits as well, which
only hindsight can choose.

In the regimes "in time" every device has a link (0.3 to 3 times as fast as the cycles without it
need, its waiting cores idle or shared), and half of them logits that are released over time.

    python benchmarks/robustness.py [--regimes both] [--seed 12]

About fifteen minutes on one core for the first three regimes; prints, and writes one JSON file per
seed and regime.
"""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path

import numpy as np
from paper_claims import CYCLES, draw_scenario

import kdsim
from kdsim.engines import batch
from kdsim.policies.builtin import looks_ahead

RESULTS = Path(__file__).parent / "results" / "robustness"
DEVICES, REPLICATIONS, SEED = 500, 20, 11
PLANNING = ("state-based", "optimal")
OTHERS = ("random", "comm-priority", "comp-priority", "greedy", "greedy-full")
REGIMES = ("cost", "noise", "both", "cost in time", "both in time")
#: What a planning policy may lose to the best other one: in 95 % of the devices, and in all.
TARGETS = {"within_1_percent": 0.95, "within_3_percent": 1.0}


def draw_case(number, regime, seed):
    """Draw a device, a workload, and what the regime adds to them."""
    generator = np.random.default_rng([seed, number])
    scenario, facts = draw_scenario(generator, number)
    work = {name: getattr(scenario.workload, name) for name in ("comm", "forward", "backward")}
    uneven = generator.random() < 0.5
    if uneven:
        work = {
            name: (x * generator.uniform(0.3, 1.7, CYCLES)).tolist() for name, x in work.items()
        }
    prefetch = int(generator.choice([0, 0, 0, 1, 2, 3, 5])) or None
    noise, share = generator.uniform(0.0, 0.5), generator.uniform(0.0, 0.3)
    data = scenario.model_dump()
    data["workload"].update(work)
    data["extensions"].update(prefetch=prefetch)
    cycle = kdsim.minimal_makespan(kdsim.Scenario(**data)).makespan / CYCLES
    extensions = {
        "noise": float(noise) if not regime.startswith("cost") else 0.0,
        "reallocation_cost": float(share * cycle) if regime != "noise" else 0.0,
    }
    if regime.endswith("in time"):
        total = float(np.sum(scenario.workload.comm if not uneven else work["comm"]))
        need = total * (1 if uneven else CYCLES) / (cycle * CYCLES)
        rate = need * float(np.exp(generator.uniform(np.log(0.3), np.log(3.0))))
        starved = str(generator.choice(["idle", "shared"]))
        data["link"] = {"rate": rate, "starved": starved}
        extensions["release"] = float(generator.choice([0, 1]) * generator.uniform(0, 1) * cycle)
    data["extensions"].update(extensions)
    data.update(replications=REPLICATIONS, seed=number)
    facts = {**facts, **extensions, "prefetch": prefetch, "uneven": bool(uneven)}
    facts |= data.get("link") or {}
    return kdsim.Scenario(**data), facts


def mean_makespan(scenario, policy):
    """Return the mean over the replications of what a policy takes."""
    runs = REPLICATIONS if batch.varies(scenario, policy) else 1
    return float(batch.makespans(scenario, policy, 0, runs)[0].mean())


def planned_makespans(scenario):
    """Return what the policies that plan take: one rule where they look ahead."""
    times = {"optimal": mean_makespan(scenario, "optimal")}
    ahead = looks_ahead(scenario.plan(), scenario.extensions.noise)
    times["state-based"] = times["optimal"] if ahead else mean_makespan(scenario, "state-based")
    return times


def study(regime, devices, seed):
    """Return per device what each policy takes, and the facts."""
    rows = []
    for number in range(devices):
        scenario, facts = draw_case(number, regime, seed)
        times = {name: mean_makespan(scenario, name) for name in OTHERS}
        times |= planned_makespans(scenario)
        cores = scenario.device.cores
        static = min(mean_makespan(scenario, f"static:{c}") for c in range(1, cores))
        rows.append({"facts": facts, "times": times, "best_static": static})
    return rows


def distribution(losses):
    """Return what a policy loses to another: median, tail, and the shares of the targets."""
    losses = np.asarray(losses)
    return {
        "median": float(np.median(losses)),
        "p95": float(np.quantile(losses, 0.95)),
        "max": float(losses.max()),
        "within_1_percent": float((losses <= 0.01).mean()),
        "within_3_percent": float((losses <= 0.03).mean()),
        "deciles": np.quantile(losses, np.linspace(0.0, 1.0, 11)).tolist(),
    }


def judged(rows):
    """Set the planning policies, and the others, against the best other and the best split."""
    result = {}
    for name in (*PLANNING, *OTHERS):
        against = [other for other in OTHERS if other != name]
        best = np.array([min(row["times"][other] for other in against) for row in rows])
        taken = np.array([row["times"][name] for row in rows])
        hindsight = np.minimum(best, [row["best_static"] for row in rows])
        losses = taken / best - 1.0
        result[name] = {
            "against_the_best_other_policy": distribution(losses),
            "against_the_best_constant_split_too": distribution(taken / hindsight - 1.0),
            "worst_device": rows[int(losses.argmax())]["facts"],
        }
    return result


def main():
    """Draw, play, judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=DEVICES, help="per regime; writes at 500")
    parser.add_argument("--seed", type=int, default=SEED, help="of the devices")
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=list(REGIMES))
    asked = parser.parse_args()
    batch._WORTH_COMPILING = 0
    batch._bounds = lambda *_: np.empty(0)  # not asked for here, and slow over a link
    for regime in asked.regimes:
        result = {
            "date": datetime.date.today().isoformat(),
            "command": f"python benchmarks/robustness.py --regimes '{regime}' --seed {asked.seed}",
            "kdsim": kdsim.__version__,
            "devices": asked.devices,
            "seed": asked.seed,
            "replications": REPLICATIONS,
            "targets": TARGETS,
            **judged(study(regime, asked.devices, asked.seed)),
        }
        for name in PLANNING:
            print(regime, name, json.dumps(result[name], indent=1), flush=True)
        if asked.devices == DEVICES:
            RESULTS.mkdir(parents=True, exist_ok=True)
            name = f"{regime.replace(' ', '-')}-seed-{asked.seed}.json"
            (RESULTS / name).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
