"""The study of regimes: its page is made from its records, and its records are runs."""

import copy
import re

import pytest
from regimes_study import page, study

import kdsim


@pytest.fixture(scope="module")
def records():
    return page.read_records()


def test_every_device_with_three_core_counts_and_a_communication_curve_has_its_record(records):
    assert set(records) == set(study.devices())
    for name, record in records.items():
        assert record["design"] == study.design(name, record["design"]["workloads"])
        assert len(record["design"]["counts"]) >= 3 or name in study.TWO_COUNTS
    assert sum(len(record["design"]["counts"]) >= 3 for record in records.values()) >= 10


def test_the_page_and_the_tables_are_made_from_the_records(records):
    assert page.PAGE.read_text(encoding="utf-8") == page.page(records)
    assert (page.RESULTS / "README.md").read_text(encoding="utf-8") == page.readme(records)
    for name in re.findall(
        r"\((?:\.\./)*benchmarks/results/regimes/(.*?\.png)\)", page.page(records)
    ):
        assert (page.RESULTS / name).stat().st_size > 50_000


def test_no_gap_on_the_page_stays_when_the_records_change(records):
    other = copy.deepcopy(records)
    for record in other.values():
        for mode in ("idle", "shared"):
            for part in ("map", "workloads"):
                gaps = record[mode][part]
                for column in gaps:
                    gaps[column] = [[0.5 * g + 0.07 for g in row] for row in gaps[column]]
    before, after = (page.page(r).splitlines() for r in (records, other))
    said = [
        line
        for line in before
        if line.startswith(("- **", "| A", "| B", "| C", "| D", "Where", "At the four"))
    ]
    assert len(said) >= 20
    assert [line for line in said if line in after] == []


@pytest.mark.parametrize("name", ["raspberry-pi-5", "jetson-agx-orin"])
@pytest.mark.parametrize("mode", ["idle", "shared"])
def test_a_cell_of_a_record_is_a_run_of_each_policy_there(records, name, mode):
    design, cells = records[name]["design"], records[name][mode]["map"]
    for i, j in ((3, 0), (15, 12), (16, 18)):
        place = study.scenario(name, design["data"][i], design["rates"][j], mode)
        cores = design["cores"]
        policies = {c: c for c in study.RULES}
        policies |= {"static:1": "static:1", "static:half": f"static:{cores // 2}"}
        for column, policy in policies.items():
            gap = kdsim.simulate(place, policy).gap
            assert cells[column][i][j] == pytest.approx(gap, rel=1e-3, abs=1e-6), (column, i, j)
        best = min(cells["static:1"][i][j], cells["static:half"][i][j])
        assert cells["static:best"][i][j] <= best


def test_workloads_are_marked_where_their_bytes_and_networks_put_them(records):
    pytest.importorskip("torch")
    assert next(iter(records.values()))["design"]["workloads"] == study.workloads()
    # Three convolutions of 3 x 3 at 8 x 8, a layer of 1024 after one pool, ten classes.
    convolutions = 8 * 8 * 9 * (1 * 32 + 2 * 32 * 32)
    assert study.network_macs("edge-1", (1, 8, 8)) == convolutions + 4 * 4 * 32 * 1024 + 10_240
    # ResNet-18: 7 x 7 stem, four stages of 3 x 3, three 1 x 1 shortcuts, 1000 classes.
    stem, first = 112**2 * 49 * 3 * 64, 4 * 56**2 * 9 * 64**2
    stage = 28**2 * 9 * (64 * 128 + 3 * 128**2) + 28**2 * 64 * 128  # the same in each later stage
    assert stem + first + 3 * stage + 512_000 == pytest.approx(study.RESNET18_MACS, rel=1e-3)
