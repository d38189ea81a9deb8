"""A plain scenario, with changes to its data."""

from kdsim.scenario.validate import scenario_from_data


def plain(**changes):
    data = {
        "name": "plain",
        "device": {
            "cores": 4,
            "compute": {"a1": 1.0, "a2": 0.2},
            "communication": {"model": "usl", "rate1": 1.0, "sigma": 0.1, "kappa": 0.0},
        },
        "workload": {"cycles": 3, "comm": [1.0, 2.0, 3.0], "forward": 1.0, "backward": 0.5},
        **changes,
    }
    return scenario_from_data(data)
