"""The page in a real browser: it sorts, it draws, and a telephone shows it."""

import json
import re
import shutil
import subprocess

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        BROWSER is None, reason="Chromium is not installed (Debian: apt-get install chromium)"
    ),
]

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
