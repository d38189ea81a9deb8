"""Every notebook runs top to bottom as it is."""

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))

#: A call whose figure a reader expects to see below the cell.
_DRAWS = re.compile(
    r"^(?!\s*(?:from|import|def|#)).*(?:\bplot_\w+|_figure|\.plot|\bplots\.\w+)\(", re.M
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Proactor")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_runs_top_to_bottom(path, tmp_path, monkeypatch):
    # The kernel must find this checkout's packages and leave its files elsewhere.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(path.parents[1]), *_inherited()]))
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=180, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    for cell in notebook.cells:
        if cell.cell_type == "code" and _DRAWS.search(cell.source):
            assert any("image/png" in output.get("data", {}) for output in cell.outputs), (
                cell.source
            )
    assert not [output for output in outputs if output.output_type == "error"]
    assert outputs


def _inherited():
    return [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
