"""The commands that show a store: plot, report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdsim.cli.commands.store import store_argument
from kdsim.cli.options import (
    OUTPUT_FILE,
    complete_policies,
    curve_draws_option,
    figure_option,
    save_figure,
)
from kdsim.errors import PlotError, ScenarioError
from kdsim.messages import did_you_mean
from kdsim.output_file import check_output
from kdsim.results.comparison import Comparison, MissingRun, Sample

if TYPE_CHECKING:
    from kdsim.answers.advice import Advice
    from kdsim.results.curve_uncertainty import CurveUncertainty
    from kdsim.sweeps.ledger.store import Store

#: The kinds of `kdsim.plots.kinds`, which is loaded with the command, and what each shows.
_KINDS = ("comparison", "gap", "lines", "heatmap", "regret", "marginal")


def _at_option(words: str) -> Callable[[Any], Any]:
    """Make --at, which names points of the design."""
    return click.option("--at", "fixed", multiple=True, metavar="FIELD=VALUE", help=words)


def finished(ledger: Store) -> Comparison:
    """Return all runs of an open store as a comparison.

    Raises
    ------
    PlotError
        If no run is done.
    """
    result: Comparison = ledger.comparison()
    if not result.samples:
        raise PlotError(f"{ledger.path}: there is nothing to draw: no run is done")
    return result


# --- plot -----------------------------------------------------------------------------------------


@click.command()
@store_argument
@click.option(
    "--kind", type=click.Choice(_KINDS), default="comparison", show_default=True,
    help="Policies side by side; their gaps; lines against a swept field; gaps over two fields; "
    "their distribution over replications; seconds saved per extra core.",
)  # fmt: skip
@click.option(
    "-x", "x", metavar="FIELD", help="Swept field on the x axis [the cores, or else the first]."
)
@click.option("-y", "y", metavar="FIELD", help="Swept field on a heat map's y axis [the next].")
@click.option(
    "-p", "--policy", "policies", multiple=True, metavar="NAME", shell_complete=complete_policies,
    help="Policies to draw (repeatable) [all].",
)  # fmt: skip
@_at_option("Only the points with this value (repeatable).")
@figure_option
def plot(
    store: Path,
    kind: str,
    x: str | None,
    y: str | None,
    policies: tuple[str, ...],
    fixed: tuple[str, ...],
    output: Path,
) -> None:
    r"""Draw a figure of STORE.

    Every kind works on every store: fields without an axis become panels. Runs that failed or are
    pending are marked.

    \b
    Examples:
      kdsim plot my.sqlite -o fig5.png
      kdsim plot my.sqlite --kind gap -o gaps.png
      kdsim plot my.sqlite --kind marginal -o cores.png
      kdsim plot my.sqlite --kind lines -x device.cores --at workload.ratio=2:1 -o lines.svg
      kdsim plot my.sqlite --kind heatmap -x device.cores -y workload.ratio -p greedy -o map.png
    """
    check_output(output, "figure")
    from kdsim.plots.kinds import draw
    from kdsim.sweeps.ledger.store import Store

    with Store.open(store) as ledger:
        result = selected(finished(ledger), policies, fixed)
    save_figure(draw(result, kind, x, y), output)


def selected(result: Comparison, policies: tuple[str, ...], fixed: tuple[str, ...]) -> Comparison:
    """Return what is of these policies and at these points.

    Raises
    ------
    PlotError
        If nothing is.
    """
    wanted = dict(_parse_fixed(text, result) for text in fixed)
    names = dict.fromkeys(sample.policy for sample in result.samples)
    for name in policies:
        if name not in names:
            raise PlotError(
                f"no finished run of the store is of policy {name!r}"
                f"{did_you_mean(name, names)}; there are {', '.join(names)}"
            )

    def is_wanted(item: Sample | MissingRun) -> bool:
        here = all(str(item.point[name]) in values for name, values in wanted.items())
        return here and (not policies or item.policy in policies)

    samples = [sample for sample in result.samples if is_wanted(sample)]
    if not samples:
        raise PlotError(f"no finished run of the store is at {', '.join(fixed)}")
    return Comparison(result.scenario, samples, [run for run in result.missing if is_wanted(run)])


def _parse_fixed(text: str, result: Comparison) -> tuple[str, set[str]]:
    name, equals, value = text.partition("=")
    if not equals or name not in result.scenario.sweep:
        swept = ", ".join(result.scenario.sweep) or "no fields"
        raise ScenarioError(f"--at takes FIELD=VALUE of a swept field; swept: {swept} (got {text})")
    texts = {value}
    try:  # 1 and 1.0 are the same value
        number = json.loads(value)
        texts |= {str(float(number))} | (
            {str(int(number))} if float(number).is_integer() else set()
        )
    except (ValueError, TypeError):
        pass
    return name, texts


# --- report ---------------------------------------------------------------------------------------


@click.command()
@store_argument
@_at_option("Draw the runs of this point (repeatable) [the median point of the design].")
@click.option(
    "--advise", "advised", is_flag=True,
    help="Also answer what `kdsim advise` answers, for the scenario as written (some seconds).",
)  # fmt: skip
@curve_draws_option
@click.option(
    "-o", "--output", type=OUTPUT_FILE, required=True, help="Where to write the page (.html)."
)
def report(
    store: Path, fixed: tuple[str, ...], advised: bool, curve_draws: int | None, output: Path
) -> None:
    r"""Write STORE as one self-contained HTML page: answer, figures, all numbers, how it was made.

    \b
    Examples:
      kdsim report my.sqlite -o my.html
      kdsim report my.sqlite --advise --curve-draws 100 -o my.html
      kdsim report my.sqlite --at device.cores=8 -o my.html
    """
    check_output(output, "page")
    if curve_draws is not None and not advised:
        raise ScenarioError("--curve-draws asks the advice; add --advise")
    from kdsim.sweeps.ledger.store import Store

    with Store.open(store) as ledger:
        advice = _advice(ledger, curve_draws) if advised else None
        write_page(ledger, output, fixed, advice=advice)


def _advice(ledger: Store, curve_draws: int | None) -> Advice:
    """Answer for the scenario of a store, without its sweep."""
    from kdsim.answers.advice import advise
    from kdsim.cli.progress import ProgressBar

    finished(ledger)  # else there is no page to put it on
    with ProgressBar("studies") as progress:
        return advise(ledger.scenario(), curve_draws=curve_draws, progress=progress)


def write_page(
    ledger: Store,
    output: Path,
    fixed: tuple[str, ...] = (),
    *,
    curves: CurveUncertainty | None = None,
    advice: Advice | None = None,
) -> None:
    """Write the report of an open store; `fixed` chooses the point whose runs are drawn."""
    from kdsim.report.sections import ReportData, write_report

    result = finished(ledger)
    point = selected(result, (), fixed).samples[0].point if fixed else None
    manifest = {k: v for k, v in ledger.manifest.items() if k not in ("scenario", "request")}
    data = ReportData(
        result.scenario, result.samples, manifest, result.missing, point, curves, advice
    )
    write_report(data, output)
    click.echo(f"page written to {output}", err=True)
