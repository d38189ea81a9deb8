"""The files of the device library are what the command makes of the raw files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from calibration.devices import make
from calibration.devices.make import YARDSTICK, device_document, make_library
from calibration.devices.measurements import (
    NCNN_LOG,
    measured_devices,
    network_sizes,
    read_catalogue,
)
from calibration.devices.page import BEGIN, END, devices_markdown, update_page
from calibration.devices.receiving import SBC_BENCH, measured_receiver, single_core_indices
from calibration.devices.scaling import fit_device
from calibration.importing.ncnn import read_ncnn
from kdsim.errors import PlotError
from kdsim.scenario.files.library import library_device, library_names
from kdsim.scenario.load import load_scenario, read_curves
from kdsim.scenario.parts.device import Device

LIBRARY = Path(__file__).resolve().parents[3] / "scenarios" / "devices"


@pytest.fixture(scope="module")
def devices():
    return measured_devices(read_ncnn(NCNN_LOG), read_catalogue())


def test_every_catalogued_device_ships_and_no_other(devices):
    assert library_names() == sorted(d.entry.name for d in devices)


def test_measured_points_are_the_mean_over_networks_of_the_raw_times(devices):
    sizes = network_sizes(devices)
    for device in devices:
        facts = library_device(device.entry.name)["provenance"]
        logs = np.log([[sizes[n]] for n in device.networks]) - np.log(device.seconds)
        np.testing.assert_allclose(
            facts["points"]["measured"], np.exp(logs.mean(axis=0)), rtol=1e-4
        )
        assert facts["networks"] == list(device.networks)
        assert facts["source"]["lines"] == list(device.lines)
        assert facts["source"]["licence"] == "BSD-3-Clause"


@pytest.mark.parametrize("name", ["raspberry-pi-5", "jetson-agx-xavier", "radxa-zero-3w"])
def test_a_shipped_curve_is_the_fit_to_the_raw_times(devices, name):
    device = next(d for d in devices if d.entry.name == name)
    made = fit_device(device, network_sizes(devices))
    points = library_device(name)["provenance"]["points"]
    assert library_device(name)["provenance"]["model"] == made.model
    np.testing.assert_allclose(points["rate"], made.rates, rtol=1e-3)
    np.testing.assert_allclose(points["low"], made.low, rtol=5e-3)
    np.testing.assert_allclose(points["high"], made.high, rtol=5e-3)


@pytest.mark.endurance
def test_the_command_makes_all_files_that_ship(tmp_path):
    written = make_library(tmp_path)
    assert [p.name for p in sorted(written)] == [p.name for p in sorted(LIBRARY.glob("*.json"))]
    assert_shipped(written)


def test_the_command_makes_the_files_that_ship(tmp_path, devices, monkeypatch):
    few = [d for d in devices if d.entry.name in {YARDSTICK, "raspberry-pi-4", "orange-pi-zero-2"}]
    monkeypatch.setattr(make, "measured_devices", lambda *_: few)
    written = make_library(tmp_path)
    assert len(written) == len(few) >= 2
    assert_shipped(written)


def assert_shipped(written):
    for path in written:
        new, old = (json.loads(p.read_text()) for p in (path, LIBRARY / path.name))
        assert new["provenance"]["model"] == old["provenance"]["model"], path.name
        np.testing.assert_allclose(
            new["provenance"]["points"]["rate"], old["provenance"]["points"]["rate"], rtol=1e-2
        )


def test_every_device_of_the_library_is_a_legal_curve_file_with_a_mark():
    for name in library_names():
        entry = read_curves(LIBRARY / f"{name}.json")
        assert entry["proxies"]["compute"].startswith("inference proxy"), name
        least, largest = entry["measured_cores"]["compute"]
        assert largest == entry["reference_cores"] >= least >= 1


def test_a_copied_device_file_reads_like_the_library(tmp_path):
    (tmp_path / "pi.json").write_bytes((LIBRARY / "raspberry-pi-5.json").read_bytes())
    rest = "\nworkload: {cycles: 2, comm: 1.0, forward: 1.0, backward: 1.0}\n"
    (tmp_path / "a.yaml").write_text("name: a\ndevice: {cores: 4, curves: pi.json}" + rest)
    (tmp_path / "b.yaml").write_text("name: b\ndevice: {library: raspberry-pi-5}" + rest)
    a, b = (load_scenario(tmp_path / name).plan() for name in ("a.yaml", "b.yaml"))
    np.testing.assert_array_equal(a.comp_rates, b.comp_rates)
    np.testing.assert_array_equal(a.comm_rates, b.comm_rates)


def test_the_stand_in_for_receiving_goes_by_the_measured_receiver():
    receiver = measured_receiver()
    middle, low, high = receiver.rates(1.0, 2)
    curves = read_curves(LIBRARY.parents[1] / "calibration" / "traces" / "epyc-2core.curves.yaml")
    np.testing.assert_allclose(middle, curves["communication"]["rates"], rtol=1e-12)
    assert low[1] == low[0] == pytest.approx(middle[0] / receiver.factor)
    assert high[1] == pytest.approx(2 * middle[0] * receiver.factor)
    assert receiver.factor > 2


def test_boards_behind_the_factor_are_those_of_the_raw_table():
    rows = [
        line.split("|")[1:-1]
        for line in SBC_BENCH.read_text(encoding="utf-8").split("\n")
        if line.startswith("| [") and line.count("|") == 11
    ]
    both = [(r[5].strip(), r[7].strip()) for r in rows]
    both = [(float(a), float(b)) for a, b in both if a.isdigit() and b.isdigit()]
    assert both == single_core_indices()
    assert len(both) > 200


def test_a_device_without_a_run_on_one_core_has_no_communication_side(devices):
    device = next(d for d in devices if d.entry.name == "nanopi-r2s")
    sizes = network_sizes(devices)
    document = device_document(
        device, fit_device(device, sizes, resamples=3), sizes, measured_receiver(), 1.0, {}
    )
    assert "communication" not in document
    assert "communication" not in document["proxies"]


def test_the_table_in_the_documentation_is_that_of_the_library():
    page = (LIBRARY.parents[1] / "docs" / "devices.md").read_text(encoding="utf-8")
    table = devices_markdown((name, library_device(name)) for name in library_names())
    assert f"{BEGIN}\n{table}{END}" in page


def test_a_page_without_a_place_for_the_table_is_refused(tmp_path):
    (tmp_path / "p.md").write_text("# Devices\n")
    with pytest.raises(PlotError, match="has no place for the table"):
        update_page(tmp_path / "p.md", "| a |\n")


@pytest.mark.parametrize("name", library_names())
def test_the_draws_of_a_device_are_legal_curves_within_its_intervals(name):
    entry = library_device(name)
    total, points = entry["reference_cores"], entry["provenance"]["points"]
    own = {} if "communication" in entry else {"communication": {"b1": 1.0, "b2": 0.0, "b3": 1.0}}
    device = Device.model_validate({"library": name, "extrapolate": True, **own})
    at = total - np.array(points["own_cores"])
    rates = [device.drawn(k).compute_rates(total)[at] for k in range(device.draws.count)]
    # The draws are the first half of those behind the intervals; surplus cores stay idle.
    low, high = np.maximum.accumulate([points["low"], points["high"]], axis=1)
    inside = (np.array(rates) >= 0.98 * low) & (np.array(rates) <= 1.02 * high)
    assert (inside.mean(axis=0) > 0.85).all()


def test_the_draws_of_the_stand_in_lie_within_its_factor():
    proxy = library_device("raspberry-pi-5")["provenance"]["communication_proxy"]
    draws = library_device("raspberry-pi-5")["draws"]["communication"]
    rate1 = np.array(draws["rate1"].split(), float)
    serial = np.array(draws["serial"].split(), float)
    assert 0.9 < ((rate1 > proxy["low"][0]) & (rate1 < proxy["high"][0])).mean() <= 1.0
    assert serial.min() < 0.1
    assert serial.max() > 0.9
