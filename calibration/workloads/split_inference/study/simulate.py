"""A plan as a kdsim scenario: each part a device of one core and its link.

A cycle of the scenario is a stretch of layers between two exchanges. Its Comm is the exchange,
its Forward the rows that can be computed while rows travel (overlap), its Backward the rest,
which needs them. With ``prefetch: 1`` an exchange starts when the stretch before it is done, as
in the workers. Work is counted in seconds of the part's core, so both rates are 1.

The scenario knows one part at a time: what a part waits for a slower one is in the maximum over
the parts only. Compare ``cost.predict``, which plays all parts together.
"""

from __future__ import annotations

from calibration.workloads.split_inference.cost import CostModel
from calibration.workloads.split_inference.planning.planner import Plan
from calibration.workloads.split_inference.planning.program import compile_part
from kdsim._types import Record
from kdsim.engines.des import simulate
from kdsim.scenario.validate import scenario_from_data


def scenario_data(split: Plan, part: int, costs: CostModel, *, itemsize: int = 4) -> Record:
    """Return the scenario of one part, with the fields of a scenario file.

    Parameters
    ----------
    itemsize : int
        Bytes of one value.
    """
    comm, forward, backward = [0.0], [0.0], [0.0]
    travelling = False
    for step in compile_part(split, part).steps:
        if step.action == "compute":
            seconds = costs.layers[part][step.layer](step.rows.count)
            (forward if travelling else backward)[-1] += seconds
            continue
        size = split.messages[step.message].values * itemsize
        if step.action == "send":
            if not travelling:  # a new exchange begins
                for column in (comm, forward, backward):
                    column.append(0.0)
            travelling = True
            comm[-1] += costs.send(size)
        else:
            travelling = False
            comm[-1] += costs.receive(size) + costs.latency_s
    return {
        "name": f"split-part-{part}",
        "description": f"Part {part} of {split.parts}; work in seconds of its core.",
        "device": {
            "cores": 1,
            "compute": {"a1": 1.0, "a2": 0.0},
            "communication": {"b1": 1.0, "b2": 0.0, "b3": 1.0},
        },
        "workload": {"cycles": len(comm), "comm": comm, "forward": forward, "backward": backward},
        "policies": ["comm-priority"],
        "replications": 1,
        "extensions": {"prefetch": 1},
    }


def simulated_latency(split: Plan, costs: CostModel, *, itemsize: int = 4) -> float:
    """Return the makespan that kdsim gives for the slowest part.

    Returns
    -------
    float
        Seconds.
    """
    makespans = []
    for part in range(split.parts):
        scenario = scenario_from_data(scenario_data(split, part, costs, itemsize=itemsize))
        makespans.append(simulate(scenario, policy="comm-priority").makespan)
    return max(makespans)
