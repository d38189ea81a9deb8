"""The report: whole, safe, the same each time, and alive in a real browser."""

import base64
import csv
import html
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from front_door import call
from swept_fields import swept

import kdsim
from kdsim.answers.advice import advise
from kdsim.answers.sentences import by_topic
from kdsim.errors import PlotError
from kdsim.report import sections as report
from kdsim.results.comparison import MissingRun, Sample
from kdsim.scenario.changes import with_fields

POLICIES = ("random", "comm-priority", "optimal")


def compared(sweep=None, **changes):
    """Compare three policies on three cycles of a bundled scenario, with another sweep."""
    return kdsim.compare(swept(sweep or {}, **changes), POLICIES, replications=4)


class Structure(HTMLParser):
    """Open tags, identifiers, headings and addresses of a page."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input"})

    def __init__(self, text):
        super().__init__()
        self.stack, self.ids, self.tags, self.addresses = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if "id" in attrs:
            self.ids.append(attrs["id"])
        for name in ("href", "src", "xlink:href"):
            if name in attrs:
                self.addresses.append(attrs[name])
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def test_the_page_is_well_formed_with_unique_identifiers(page):
    structure = Structure(page)
    assert structure.stack == []
    assert len(structure.ids) == len(set(structure.ids))
    local = {a[1:] for a in structure.addresses if a.startswith("#")}
    local |= set(re.findall(r"url\(#([^)]+)\)", page))
    assert local <= set(structure.ids)


def test_the_page_needs_nothing_from_anywhere(page):
    structure = Structure(page)
    assert all(a.startswith(("#", "data:")) for a in structure.addresses)
    assert not {tag for tag, _ in structure.tags} & {"link", "iframe", "object", "img"}
    assert "default-src 'none'" in page
    assert "@import" not in page


def test_a_grid_gets_every_figure_the_gaps_first(page):
    labels = [attrs["aria-label"] for tag, attrs in Structure(page).tags if tag == "svg"]
    assert labels == [
        "Gap of each policy to the proven bound",
        "Makespan of each policy",
        "Seconds saved per extra unit of cores of the device",
        "Gap of each policy over two swept fields",
        "Timeline of optimal",
        "Timeline of random",
    ]


def test_the_contents_link_to_every_section_and_the_answer_comes_first(page):
    structure = Structure(page)
    sections = [attrs["id"] for tag, attrs in structure.tags if tag == "section"]
    links = [a[1:] for a in structure.addresses if a in {f"#{name}" for name in sections}]
    assert links == sections == ["answer", "figures", "run", "numbers", "scenario-fields",
                                 "method-facts"]  # fmt: skip
    assert page.index("<details>") > page.index('id="figures"')


def test_the_answer_says_what_an_extra_core_saves(grid, page):
    first, last = (
        next(s for s in grid.samples if s.point == {"device.cores": c, "workload.ratio": "1:1"})
        for c in (6, 12)
    )
    saved = (first.bounds.mean() - last.bounds.mean()) / 6
    assert f"from 6 to 12 cores {saved:.3g} s per extra core (Comp : Comm work = 1:1)" in page


def test_ratios_are_sorted_as_the_numbers_that_they_are():
    made = compared({"workload.ratio": ["2:1", "10:1", "1:2"]})
    page = report.report_html(report.ReportData(made.scenario, made.samples))
    cells = re.findall(r'data-value="([^"]*)">(\d+:\d)</td>', page)
    assert {(float(value), words) for value, words in cells} == {
        (2.0, "2:1"), (10.0, "10:1"), (0.5, "1:2"),
    }  # fmt: skip


def test_the_run_shown_is_of_the_median_point_or_of_the_one_chosen(grid):
    made = compared({"device.cores": [12, 6, 8]})
    page = report.report_html(report.ReportData(made.scenario, made.samples))
    assert "Replication 0 at the median point of the design (8 cores)" in page
    chosen = report.ReportData(made.scenario, made.samples, point={"device.cores": 12})
    assert "Replication 0 at 12 cores:" in report.report_html(chosen)


def test_an_incomplete_study_says_so_before_anything_else(grid):
    half = [s for s in grid.samples if s.point["device.cores"] == 12]
    missing = [
        *(MissingRun("a", s.point, s.policy, "pending", "") for s in grid.samples if s not in half),
        *(
            MissingRun("b", s.point, "mine:Crash", "failed", f"ValueError: no (state: i={k})")
            for k, s in enumerate(half)
            if s.policy == "optimal"
        ),
    ]
    page = report.report_html(report.ReportData(grid.scenario, half, missing=missing))
    banner = page[page.index('class="banner"') : page.index("<nav")]
    assert "6 of 14 runs done, 6 pending, 2 failed" in banner
    assert "mine:Crash: 2 runs failed and no run of it finished: ValueError: no" in banner
    assert "points finished of 4" in page
    gaps = page[page.index('<table id="gaps"') : page.index('id="figures"')]
    assert re.findall(r'<th scope="row".*?>([^<]*)</th>', gaps) == [*POLICIES, "mine:Crash"]
    crashed = gaps[gaps.index("mine:Crash</th>") :]
    assert re.findall(r"<td[^>]*>([^<]*)</td>", crashed) == ["–", "–", "0"]
    assert "on the proven optimum at every finished point" in html.unescape(page)
    assert "Incomplete: 6 of 14 runs done" in page[page.index('id="figures"') :]


def test_noise_adds_the_regret_and_no_sweep_leaves_out_its_figures():
    noisy = compared(**{"extensions.noise": 0.4})
    page = report.report_html(report.ReportData(noisy.scenario, noisy.samples))
    assert "Regret under noise" in page
    assert "Seconds saved" not in page
    assert "Closest to the proven lower bound is optimal" in page


def test_a_lower_bound_is_never_called_an_optimum():
    bounded = compared(**{"extensions.reallocation_cost": 0.1})
    page = report.report_html(report.ReportData(bounded.scenario, bounded.samples))
    words = re.sub(r"<svg.*?</svg>|<style>.*?</style>", "", page, flags=re.DOTALL)
    assert "proven lower bound" in words
    assert not re.search(r"optimum", words.split('<section id="scenario-fields"')[0])


def test_the_table_holds_every_number_and_so_does_its_csv(page, grid):
    (link,) = [a for a in Structure(page).addresses if a.startswith("data:text/csv")]
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(link.split(",")[1]).decode())))
    assert [(r["device.cores"], r["workload.ratio"], r["policy"]) for r in rows] == [
        (str(r["device.cores"]), r["workload.ratio"], r["policy"]) for r in grid.rows
    ]
    assert [float(r["mean"]) for r in rows] == [r["mean"] for r in grid.rows]
    for row in grid.rows:
        assert f'data-value="{row["mean"]}"' in page
    assert "optimal is on the proven optimum everywhere." in page


def test_the_page_says_how_it_was_made(page, grid):
    for words in ("Student&#x27;s t", grid.scenario.digest(), kdsim.__version__, "made on", "x86"):
        assert words in page
    source = re.search(r"<pre>(.*?)</pre>", page, re.DOTALL).group(1).replace("&quot;", '"')
    assert kdsim.Scenario.model_validate(json.loads(source)).digest() == grid.scenario.digest()


def test_names_from_outside_cannot_break_the_page(grid):
    evil = '"><script>alert(1)</script>'
    scenario = grid.scenario.model_copy(update={"name": evil, "description": "<b>&"})
    samples = [
        Sample(s.point, evil, s.makespans, s.bounds, s.bound_kind, s.varies)
        for s in grid.samples
        if s.policy == "comm-priority"
    ]
    page = report.report_html(report.ReportData(scenario, samples, {evil: evil}))
    assert "<script>alert" not in page
    assert [tag for tag, _ in Structure(page).tags].count("script") == 1


def test_the_same_comparison_gives_the_same_page(tmp_path, grid):
    a = report.write_report(grid, tmp_path / "a.html").read_bytes()
    b = report.write_report(
        report.ReportData(grid.scenario, grid.samples), tmp_path / "b.html"
    ).read_bytes()
    assert a == b


def test_a_long_table_is_cut_and_says_so(grid, monkeypatch):
    monkeypatch.setattr(report, "MAX_ROWS", 5)
    page = report.report_html(report.ReportData(grid.scenario, grid.samples))
    assert "The first 5 of 12 rows." in page


def test_what_cannot_be_given_is_a_dash_and_long_lists_are_summed_up():
    data = swept({}).model_dump()
    work = [float(k) for k in range(30)]
    data["workload"] = {"cycles": 30, "comm": work, "forward": 1.0, "backward": 1.0}
    listed = kdsim.Scenario.model_validate(data)
    once = Sample({}, "random", np.array([200.0]), np.array([150.0]), "optimum", True)
    page = report.report_html(report.ReportData(listed, [once]))
    assert "30 numbers from 0 to 29" in page
    assert "none can be given from a single replication" in page
    assert '<td data-value="">–</td>' in page
    assert ">nan<" not in page


def test_an_empty_report_and_an_unwritable_place_are_refused(tmp_path, grid):
    with pytest.raises(PlotError, match="no samples"):
        report.write_report(report.ReportData(grid.scenario, []), tmp_path / "a.html")
    with pytest.raises(PlotError, match="there is no folder"):
        report.write_report(grid, tmp_path / "nowhere" / "a.html")


def test_the_page_says_how_much_a_policy_can_matter(grid):
    page = report.report_html(report.ReportData(grid.scenario, grid.samples))
    assert len(grid.stakes) == 4
    for point, worth in grid.stakes:
        assert worth.sentence in html.unescape(page), point


def test_advice_and_draws_are_sections_of_the_page_in_the_words_of_the_commands():
    scenario = with_fields(kdsim.load_scenario("measured"), {"workload.cycles": 3})
    made = kdsim.compare(scenario, ["greedy", "comm-priority"], curve_draws=5)
    advice = advise(scenario, noise=(0.0,), policies=["greedy", "static:1"], curve_draws=5)
    data = report.ReportData(scenario, made.samples, curves=made.curves, advice=advice)
    page = report.report_html(data)
    text = html.unescape(page)
    for heading, found in by_topic(advice):
        assert f"<h3>{heading}</h3>" in page
        for sentence in found:
            assert f"<li>{sentence.text}</li>" in text
    assert [part for part in Structure(page).ids if part in ("answer", "advice", "curves")] == [
        "answer", "advice", "curves",
    ]  # fmt: skip
    assert len(re.findall(r'<table id="curve-', page)) == 2
    plain = report.report_html(report.ReportData(scenario, made.samples))
    assert "Advice" not in plain
    assert "How sure" not in plain


def test_the_command_puts_advice_on_the_page_where_it_is_asked_for(tmp_path):
    store, page = tmp_path / "s.sqlite", tmp_path / "p.html"
    kdsim.sweep(with_fields(kdsim.load_scenario("measured"), {"workload.cycles": 3}), store,
                policies=["greedy"])  # fmt: skip
    made = call("report", store, "--advise", "-o", page)
    assert made.code == 0, made.err
    assert "Which policy</h3>" in page.read_text(encoding="utf-8")
    refused = call("report", store, "--curve-draws", 5, "-o", page)
    assert refused.code == 2
    assert "add --advise" in refused.err
