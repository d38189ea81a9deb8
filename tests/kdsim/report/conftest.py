"""A study of two fields, and its page."""

import pytest
from swept_fields import swept

import kdsim
from kdsim.report import sections as report


@pytest.fixture(scope="package")
def grid():
    sweep = {"device.cores": [12, 6], "workload.ratio": ["1:1", "2:1"]}
    policies = ("random", "comm-priority", "optimal")
    return kdsim.compare(swept(sweep), policies, replications=4)


@pytest.fixture(scope="package")
def page(grid):
    return report.report_html(report.ReportData(grid.scenario, grid.samples, {"made on": "x86"}))
