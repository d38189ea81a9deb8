"""Make the committed pages of `kdsim advise`: four scenarios, as JSON, as text and as a figure.

    python -m benchmarks.answers.pages [NAME ...]

Writes ``benchmarks/results/answers/NAME.json``, ``.md`` and ``.png``. The two devices of the
library take the workload of the bundled scenario ``paper-1to1``; every page takes the first 100
draws of its curves where it has any, and 50 runs of each policy under noise.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import kdsim
from kdsim import plots
from kdsim.answers.advice import advise
from kdsim.answers.sentences import TOPICS, advice_data

RESULTS = Path(__file__).resolve().parents[1] / "results" / "answers"
#: Page -> bundled scenario, and the device of the library in place of its own.
PAGES = {
    "measured": ("measured", None),
    "paper-1to1": ("paper-1to1", None),
    "raspberry-pi-5": ("paper-1to1", "raspberry-pi-5"),
    "jetson-agx-orin": ("paper-1to1", "jetson-agx-orin"),
}
DRAWS, REPLICATIONS = 100, 50


def question(name: str) -> kdsim.Scenario:
    """Return the scenario of a page."""
    source, device = PAGES[name]
    scenario = kdsim.load_scenario(source)
    if device is not None:
        scenario = kdsim.with_fields(scenario, {"device.library": device})
        scenario = scenario.model_copy(update={"name": f"{source} on {device}"})
    return scenario


def page(data: dict[str, object], figure: str) -> str:
    """Write the sentences of an advice as Markdown, by topic."""
    lines = [f"# {data['scenario']}", ""]
    lines += [f"{data['bound_kind']} of the makespan: {data['makespan']:.4g} s".capitalize(), ""]
    for topic, heading in TOPICS.items():
        lines += [f"## {heading}", ""]
        lines += [f"- {one['text']}" for one in data["sentences"] if one["topic"] == topic]
        lines.append("")
    return "\n".join([*lines, f"![cores, link, policies, sensitivity]({figure})", ""])


def main(names: list[str]) -> None:
    """Make the pages asked for, all by default."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in names or PAGES:
        scenario = question(name)
        draws = DRAWS if scenario.device.draws is not None else None
        made = advise(scenario, replications=REPLICATIONS, curve_draws=draws)
        data = advice_data(made)
        (RESULTS / f"{name}.json").write_text(json.dumps(data, indent=1, allow_nan=False) + "\n")
        (RESULTS / f"{name}.md").write_text(page(data, f"{name}.png"))
        plots.save(plots.advice(made), RESULTS / f"{name}.png")
        print(name)


if __name__ == "__main__":
    main(sys.argv[1:])
