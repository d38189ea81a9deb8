from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from calibration.commands.split import command
from calibration.workloads.training.networks import build_network
from kdsim.errors import KdsimError, WorkloadError


@pytest.mark.slow
def test_the_command_measures_and_writes_what_was_asked_for(tmp_path: Path) -> None:
    net = build_network("edge-1", (3, 32, 32), 10, seed=3)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    arguments = ["--net", "edge-1", "--input", "32", "--rounds", "2", "--mode", "layerwise"]
    arguments += ["--guard", "1000"]  # however busy the machine is
    for option, name in {
        "--weights": "net.pt",
        "--plot": "layers.png",
        "--trace-out": "trace.json",
        "--out": "result.json",
    }.items():
        arguments += [option, str(tmp_path / name)]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "Layers, whole against layerwise/tcp" in result.stdout
    data = json.loads((tmp_path / "result.json").read_text())
    assert [row["method"] for row in data["methods"]] == [
        "whole",
        "openmp",
        "bound",
        "layerwise/tcp",
    ]
    assert data["methods"][3]["halo_bytes"] == 2 * 2 * 32 * 32 * 4
    assert data["manifest"]["config"]["net"] == "edge-1"
    assert data["verdict"]["word"] != "too disturbed to say"
    assert data["methods"][3]["ratio"]["n"] == data["rounds"]["made"] >= 2
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert {e["tid"] for e in events if e["ph"] == "X"} == {0, 1}
    assert all(e["dur"] >= 0 for e in events if e["ph"] == "X")
    assert (tmp_path / "layers.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"0.weight": torch.zeros(1)}, "does not match the network: 1.bias is missing"),
        ([1, 2], "holds list, not a state dict"),
        (None, "is damaged or not a file that torch.save has written"),
    ],
)
def test_a_weights_file_that_does_not_match_is_refused(
    tmp_path: Path, state: object, said: str
) -> None:
    path = tmp_path / "net.pt"
    if state is None:
        path.write_bytes(b"no archive")
    else:
        torch.save(state, path)
    arguments = ["--net", "edge-1", "--input", "32", "--weights", str(path)]
    with pytest.raises(WorkloadError, match=said) as caught:
        CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert str(path) in str(caught.value)


def test_a_weights_file_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save(build_network("edge-1", (1, 32, 32), 10).state_dict(), path)
    with pytest.raises(WorkloadError, match=r"0\.weight has shape \(32, 1, 3, 3\)"):
        CliRunner().invoke(
            command, ["--net", "edge-1", "--weights", str(path)], catch_exceptions=False
        )


@pytest.mark.parametrize(
    ("option", "name", "said"),
    [
        ("--plot", "layers.xyz", "figures are written as"),
        ("--plot", "none/layers.png", "there is no folder"),
        ("--out", "none/result.json", "there is no folder"),
        ("--trace-out", "none/trace.json", "there is no folder"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, name: str, said: str
) -> None:
    monkeypatch.setattr(
        "calibration.workloads.split_inference.study.measure.run_study", pytest.fail
    )
    with pytest.raises(KdsimError, match=said):
        CliRunner().invoke(command, [option, str(tmp_path / name)], catch_exceptions=False)


def test_help_shows_an_example() -> None:
    shown = CliRunner().invoke(command, ["--help"]).stdout
    assert "kdsim workload split --net edge-3 --input 224 --parts 2" in shown
