"""The facts about a host that traces and results carry."""

import pytest

from calibration.machine import host


def test_the_fingerprint_holds_what_a_reader_of_the_trace_needs():
    facts = host.fingerprint()
    assert {"cpu", "cores", "kernel", "governor", "python", "versions", "date"} <= set(facts)
    assert facts["versions"]["torch"]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("AMD EPYC", "epyc-2core"),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", "xeon-2core"),
        ("Raspberry Pi 4 Model B Rev 1.4", "raspberry-pi-4-2core"),
        ("", "device-2core"),
    ],
)
def test_a_device_is_named_after_its_processor(monkeypatch, model, name):
    monkeypatch.setattr(host, "cpu_model", lambda: model)
    assert host.device_name(2) == name
