"""The metadata lists all that has to ship."""

import configparser
from fnmatch import fnmatch
from pathlib import Path

import kdsim

ROOT = Path(__file__).resolve().parents[2]


def setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_every_package_is_listed():
    listed = set(setup_cfg()["options"]["packages"].split())
    found = {
        ".".join(init.parent.relative_to(ROOT).parts)
        for top in ("kdsim", "calibration")
        for init in (ROOT / top).rglob("__init__.py")
    }
    assert listed == found | {"kdsim_scenarios"}


def test_every_data_file_of_a_package_ships():
    patterns = {
        package: [pattern.strip() for pattern in value.split(",")]
        for package, value in setup_cfg()["options.package_data"].items()
    }
    for package, folder in (
        ("calibration.traces", "calibration/traces"),
        ("kdsim_scenarios", "scenarios"),
    ):
        for path in (ROOT / folder).iterdir():
            if path.is_file() and path.suffix not in (".py", ".png"):
                assert any(fnmatch(path.name, p) for p in patterns[package]), path


def test_every_dependency_is_pinned_and_torch_at_the_promised_version():
    pins = (ROOT / "constraints.txt").read_text().lower().replace("_", "-").splitlines()
    names = {line.split("==")[0] for line in pins if "==" in line}
    options = setup_cfg()
    wanted = options["options"]["install_requires"].split()
    for extra in ("torch", "cluster", "parquet", "dev"):
        wanted += options["options.extras_require"][extra].split()
    for requirement in wanted:
        name = requirement.split(">=")[0].split("[")[0].lower().replace("_", "-")
        assert name in names or name == "kdsim", name
    assert "torch==2.13.0" in pins


def test_the_version_is_one():
    assert kdsim.__version__ in (ROOT / "CHANGELOG.md").read_text()
