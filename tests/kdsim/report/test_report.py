"""The report: whole, safe, the same each time, and alive in a real browser."""

import base64
import csv
import html
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from front_door import call

import kdsim
from kdsim.answers.advice import advise
from kdsim.answers.sentences import by_topic
from kdsim.errors import PlotError
from kdsim.report import sections as report
from kdsim.results.comparison import Comparison, MissingRun, Sample
from kdsim.scenario.changes import with_fields

POLICIES = ("random", "comm-priority", "optimal")


def compared(scenario, points, replications=4):
    samples = []
    for point in points:
        changed = with_fields(scenario, point)
        noisy = changed.extensions.noise > 0
        for policy in POLICIES:
            varies = noisy or policy == "random"
            runs = [
                kdsim.simulate(changed, policy, replication=r)
                for r in range(replications if varies else 1)
            ]
            bounds = np.array([run.minimal_makespan for run in runs])
            samples.append(
                Sample(
                    point,
                    policy,
                    np.array([run.makespan for run in runs]),
                    bounds if noisy else bounds[:1],
                    runs[0].bound_kind,
                    varies,
                )
            )
    return Comparison(scenario, samples)


def small(**changes):
    scenario = kdsim.load_scenario("paper-1to1")
    return with_fields(scenario, {"workload.cycles": 3, **changes})


@pytest.fixture(scope="module")
def grid():
    points = [{"device.cores": c, "workload.ratio": r} for c in (12, 6) for r in ("1:1", "2:1")]
    return compared(small(), points)


@pytest.fixture(scope="module")
def page(grid):
    return report.report_html(report.ReportData(grid.scenario, grid.samples, {"made on": "x86"}))


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
    points = [{"workload.ratio": r} for r in ("2:1", "10:1", "1:2")]
    made = compared(small(), points, replications=1)
    page = report.report_html(report.ReportData(made.scenario, made.samples))
    cells = re.findall(r'data-value="([^"]*)">(\d+:\d)</td>', page)
    assert {(float(value), words) for value, words in cells} == {
        (2.0, "2:1"), (10.0, "10:1"), (0.5, "1:2"),
    }  # fmt: skip


def test_the_run_shown_is_of_the_median_point_or_of_the_one_chosen(grid):
    points = [{"device.cores": c} for c in (12, 6, 8)]
    made = compared(small(), points, replications=1)
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
    noisy = compared(small(**{"extensions.noise": 0.4}), [{}])
    page = report.report_html(report.ReportData(noisy.scenario, noisy.samples))
    assert "Regret under noise" in page
    assert "Seconds saved" not in page
    assert "Closest to the proven lower bound is optimal" in page


def test_a_lower_bound_is_never_called_an_optimum():
    bounded = compared(small(**{"extensions.reallocation_cost": 0.1}), [{}])
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
    scenario = small()
    data = scenario.model_dump()
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


# --- in a real browser ----------------------------------------------------------------------------

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="Chromium is not installed (Debian: apt-get install chromium)"
)

# Clicks like a user and leaves what it sees in the page, for --dump-dom to show.
PROBE = """
<script>
const seen = [];
const heads = [...document.querySelectorAll("#results thead th")];
const head = words => heads.find(h => h.textContent.startsWith(words));
const look = at => seen.push([
  [...document.querySelectorAll("#results tbody tr")].map(
    row => [...row.cells].map(cell => cell.dataset.value)),
  head(at).getAttribute("aria-sort"),
  heads.filter(h => h.getAttribute("aria-sort") !== "none").length]);
const click = at => { head(at).querySelector("button").click(); look(at); };
look("policy"); click("mean (s)"); click("mean (s)"); click("policy"); click("95 % CI");
head("Comp : Comm").querySelector("button").click();
const box = document.querySelector(".filter input"), count = document.querySelector("output");
const type = words => { box.value = words; box.dispatchEvent(new Event("input"));
  seen.push([count.textContent,
    [...document.querySelectorAll("#results tbody tr:not([hidden])")].length]); };
type("random 12"); type("nothing like that"); type("");
seen.push([getComputedStyle(document.body).backgroundColor,
  document.documentElement.scrollWidth <= innerWidth,
  head("policy").querySelector("button").tabIndex]);
const out = document.createElement("pre");
out.id = "probe"; out.textContent = JSON.stringify(seen); document.body.append(out);
</script>
"""


def browse(address, profile, *options):
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-dev-shm-usage", "--disable-quic", "--no-first-run", "--disable-component-update",
        "--disable-sync", f"--user-data-dir={profile}", "--window-size=1200,900", *options,
        address,
    ]  # fmt: skip
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=90)


@needs_browser
@pytest.mark.slow
def test_a_click_on_a_heading_sorts_the_table_in_chromium(tmp_path, page, grid):
    copy = tmp_path / "page.html"
    copy.write_text(page.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    dom = browse(copy.as_uri(), tmp_path / "profile", "--dump-dom").stdout
    text = re.search(r'<pre id="probe">(.*?)</pre>', dom, re.DOTALL).group(1)
    first, up, down, by_name, by_interval, some, none, every, (color, fits, tab) = json.loads(text)
    assert (some, none, every) == (["2 of 12 rows", 2], ["0 of 12 rows", 0], ["12 of 12 rows", 12])

    means = [float(cells[3]) for cells in first[0]]
    assert means == [row["mean"] for row in grid.rows]
    assert first[2] == 0
    assert [float(cells[3]) for cells in up[0]] == sorted(means)
    assert up[1:] == ["ascending", 1]
    assert [float(cells[3]) for cells in down[0]] == sorted(means, reverse=True)
    assert down[1:] == ["descending", 1]
    # Stable: within a policy the rows keep the order of the click before.
    expected = sorted(down[0], key=lambda cells: cells[2])
    assert by_name[0] == expected
    assert by_name[1:] == ["ascending", 1]
    lows = [float(cells[4]) for cells in by_interval[0]]
    assert lows == sorted(lows)
    assert (color, fits, tab) == ("rgb(246, 246, 243)", True, 0)


@needs_browser
@pytest.mark.slow
def test_chromium_draws_the_page_from_a_file(tmp_path, page):
    path = tmp_path / "page.html"
    path.write_text(page, encoding="utf-8")
    shot = tmp_path / "page.png"
    done = browse(
        path.as_uri(), tmp_path / "profile", f"--screenshot={shot}", "--enable-logging=stderr"
    )
    assert shot.stat().st_size > 20_000
    assert "CONSOLE" not in done.stderr, done.stderr  # no script error, nothing refused


NARROW = """<body style="margin:0">
<iframe src="{address}" style="width:390px;height:800px;border:0"></iframe><script>
const frame = document.querySelector("iframe");
frame.onload = () => {{
  const page = frame.contentDocument, seen = {{}};
  seen.wide = page.documentElement.scrollWidth;
  seen.open = [...page.querySelectorAll("section > details")].map(d => d.open);
  seen.figures = [...page.querySelectorAll("figure > div")].map(
    d => [d.clientWidth, d.querySelector("svg").getBoundingClientRect().width]);
  seen.text = [...page.querySelectorAll("#results td")].map(
    c => parseFloat(page.defaultView.getComputedStyle(c).fontSize))[0];
  const out = document.createElement("pre");
  out.id = "probe"; out.textContent = JSON.stringify(seen); document.body.append(out);
}};
</script>"""


@needs_browser
@pytest.mark.slow
def test_the_page_can_be_read_on_a_telephone(tmp_path, page):
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    narrow = tmp_path / "narrow.html"
    narrow.write_text(NARROW.format(address="page.html#numbers"))
    options = ("--dump-dom", "--allow-file-access-from-files", "--virtual-time-budget=5000")
    dom = browse(narrow.as_uri(), tmp_path / "profile", *options).stdout
    seen = json.loads(re.search(r'<pre id="probe">(.*?)</pre>', dom, re.DOTALL).group(1))
    assert seen["wide"] <= 390  # nothing but tables and figures scrolls sideways
    assert seen["open"] == [True, False, False]  # the section that the address names
    assert all(width >= 0.99 * room for room, width in seen["figures"])
    assert seen["text"] >= 12


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
