"""Three cycles of a bundled scenario, under another sweep."""

import kdsim
from kdsim.scenario.changes import with_fields


def swept(sweep, **changes):
    scenario = with_fields(kdsim.load_scenario("paper-1to1"), {"workload.cycles": 3, **changes})
    return scenario.model_copy(update={"sweep": sweep})
