from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_tables import OPTIONS, random_device, table

from calibration.fit import fit_trace
from calibration.importing.export import export_table
from calibration.importing.into import from_table, write_import
from calibration.importing.mapping import TableMapping, mapping_of, read_mapping
from calibration.importing.table import table_rows
from calibration.trace import read_trace
from calibration.trace.reading import Trace, frame
from calibration.trace.text import TextFile, read_text_file
from kdsim.errors import TraceError


def mapping(*more, **others):
    words = [*OPTIONS, *more]
    pairs = list(zip(words[::2], words[1::2], strict=True))
    chosen = {
        name: [text for option, text in pairs if option == f"--{key}"]
        for name, key in [
            ("maps", "map"),
            ("values", "value"),
            ("units", "unit"),
            ("skips", "skip"),
        ]
    }
    return mapping_of(TableMapping(), constants=["device=own"], **chosen, **others)


def rows(text, chosen=None):
    source = TextFile(path="own.csv", text=text, sha256="")
    return table_rows(source, chosen or mapping()).records


SMALL = """art;kerne_netz;kerne;menge;lauf;dauer_ms
lernen;0;4;2;0;80,5
empfang;4;4;10;0;900,125
"""


def test_a_table_becomes_rows_in_seconds_batches_and_mb():
    compute, comm = rows(SMALL)
    assert compute == {
        "device": "own", "task": "compute", "total_cores": 4, "comm_cores": 0, "work": 2.0,
        "unit": "batch", "repeat": 0, "seconds": pytest.approx(0.0805),
    }  # fmt: skip
    assert comm["seconds"] == pytest.approx(0.900125)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("comma", [False, True])
def test_delimiters_and_decimal_commas_are_recognised(delimiter, comma):
    number = '"80,5"' if comma and delimiter == "," else "80,5" if comma else "80.5"
    text = SMALL.split("\n")[0] + f"\nlernen;0;4;2;0;{number}\n"
    if delimiter != ";":
        text = text.replace(";", delimiter)
    assert rows(text)[0]["seconds"] == pytest.approx(0.0805)


@pytest.mark.parametrize(
    ("unit", "mb"),
    [("B", 1e-6), ("kB", 1e-3), ("MB", 1.0), ("KiB", 1.024e-3), ("MiB", 1.048576), ("GB", 1e3)],
)
def test_data_is_counted_in_mb(unit, mb):
    chosen = mapping().model_copy(update={"units": {"compute": "batch", "comm": unit}})
    assert rows(SMALL, chosen)[1]["work"] == pytest.approx(10 * mb)


@pytest.mark.parametrize(("unit", "s"), [("s", 1), ("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9)])
def test_times_are_counted_in_seconds(unit, s):
    text = SMALL.replace("80,5", "8e5").replace("900,125", "9e5")
    chosen = mapping("--map", f"seconds=dauer_ms:{unit}")
    assert rows(text, chosen)[0]["seconds"] == pytest.approx(8e5 * s)


def test_own_cores_give_the_cores_of_communication():
    chosen = mapping().model_dump()
    chosen["columns"]["own_cores"] = chosen["columns"].pop("comm_cores")
    text = SMALL.replace("lernen;0", "lernen;3")
    assert [r["comm_cores"] for r in rows(text, TableMapping.model_validate(chosen))] == [1, 4]


def test_without_repeats_each_row_is_a_trial_of_its_point():
    chosen = mapping().model_dump()
    del chosen["columns"]["repeat"]
    text = SMALL + SMALL.split("\n", 1)[1]
    found = rows(text, TableMapping.model_validate(chosen))
    assert [r["repeat"] for r in found] == [0, 0, 1, 1]


def test_rows_are_left_out_by_their_word_on_request_only():
    text = SMALL + "pause;0;4;0;0;1,5\n"
    with pytest.raises(TraceError, match=r"own\.csv:4: task: .*--skip task:pause"):
        rows(text)
    assert len(rows(text, mapping("--skip", "task:pause"))) == 2


def test_everything_that_is_open_is_asked_at_once():
    with pytest.raises(TraceError) as caught:
        rows(SMALL, mapping_of(TableMapping(), maps=["task=art"]))
    for name in ("device", "total_cores", "work", "seconds", "comm_cores"):
        assert f"own.csv: {name}: which column" in str(caught.value)
    assert "the table has the columns 'art', 'kerne_netz'" in str(caught.value)


def test_a_mapping_file_says_the_same_as_the_options(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(
        "columns: {task: art, comm_cores: kerne_netz, total_cores: kerne, work: menge,\n"
        "          repeat: lauf, seconds: {column: dauer_ms, unit: ms}}\n"
        "values: {task: {lernen: compute, empfang: comm}}\n"
        "set: {device: own}\nunits: {compute: batch, comm: MB}\n"
    )
    assert rows(SMALL, read_mapping(path)) == rows(SMALL)
    path.write_text("columns: {tsk: art}\n")
    with pytest.raises(TraceError, match="unknown column 'tsk' - did you mean 'task'"):
        read_mapping(path)
    path.write_text("colums: {}\nset: {device: [1]}\n")
    with pytest.raises(TraceError, match=r"own\.yaml:1:1: colums: unknown field"):
        read_mapping(path)


# --- into a trace ---------------------------------------------------------------------------------


def test_a_second_import_changes_nothing_and_another_file_is_added_on_request(tmp_path):
    own, other, out = (tmp_path / name for name in ("own.csv", "other.csv", "t.csv"))
    rng = np.random.default_rng(0)
    q, r = random_device(rng)
    own.write_text(table(rng, q, r))
    other.write_text(table(rng, q, r))
    assert write_import(from_table(own, mapping()), out, add=False) == "written"
    before = out.read_bytes()
    for add in (False, True):
        assert write_import(from_table(own, mapping()), out, add=add) == "unchanged"
        assert out.read_bytes() == before
    with pytest.raises(TraceError, match="holds other measurements; add to it with --add"):
        write_import(from_table(other, mapping()), out, add=False)
    with pytest.raises(TraceError, match="by other options"):
        write_import(from_table(own, mapping("--skip", "task:x")), out, add=True)
    assert out.read_bytes() == before
    assert write_import(from_table(other, mapping()), out, add=True) == "added"
    trace = read_trace(out)
    assert [o["file"] for o in trace.header["origin"]] == ["own.csv", "other.csv"]
    assert sorted(trace.rows["trial"].unique()) == list(range(12))
    assert write_import(from_table(other, mapping()), out, add=True) == "unchanged"


def test_what_is_added_must_be_of_the_same_device(tmp_path):
    own, out = tmp_path / "own.csv", tmp_path / "t.csv"
    own.write_text(SMALL)
    write_import(from_table(own, mapping()), out, add=False)
    own.write_text(SMALL.replace(";4;2;", ";8;2;").replace(";4;10;", ";8;10;"))
    with pytest.raises(TraceError, match=r"total_cores: the trace describes 4 \(got 8\)"):
        write_import(from_table(own, mapping()), out, add=True)


words = st.sampled_from(["compute", "comm"])


@settings(max_examples=25, deadline=None)
@given(
    drawn=st.lists(st.tuples(words, st.integers(1, 7), st.floats(0.01, 1e3), st.floats(1e-5, 1e3)),
                   min_size=1, max_size=12),
    comma=st.booleans(), own=st.booleans(), unit=st.sampled_from(["B", "kB", "MiB"]),
)  # fmt: skip
def test_an_exported_trace_is_imported_again_as_it_was(drawn, comma, own, unit):
    records = [
        {"device": "own", "task": task, "total_cores": 8, "comm_cores": c, "work": work,
         "unit": {"compute": "batch", "comm": "MB"}[task], "repeat": i, "seconds": seconds}
        for i, (task, c, work, seconds) in enumerate(drawn)
    ]  # fmt: skip
    chosen = mapping().model_dump()
    if own:
        chosen["columns"]["own_cores"] = chosen["columns"].pop("comm_cores")
    chosen |= {"units": {"compute": "batch", "comm": unit}, "delimiter": ";",
               "decimal": "comma" if comma else "point"}  # fmt: skip
    chosen = TableMapping.model_validate(chosen)
    text = export_table(Trace(frame(records)), chosen)
    for before, after in zip(records, rows(text, chosen), strict=True):
        assert after == {k: pytest.approx(v, rel=1e-9) if isinstance(v, float) else v
                         for k, v in before.items()}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_known_rates_are_recovered_from_an_own_table(tmp_path, seed):
    """A short form of the study in benchmarks/recovery_study/tables.py, which has 50 devices."""
    rng = np.random.default_rng(seed)
    q, r = random_device(rng)
    (tmp_path / "own.csv").write_text(table(rng, q, r))
    write_import(from_table(tmp_path / "own.csv", mapping()), tmp_path / "t.csv", add=False)
    fit = fit_trace(tmp_path / "t.csv", bootstrap=40)
    errors = np.abs(
        np.concatenate([fit.compute.rates[:8] / q, fit.communication.rates[1:] / r]) - 1
    )
    assert np.median(errors) < 0.03
    assert errors.max() < 0.10


def test_a_word_that_many_rows_share_is_asked_for_once():
    row = "{};0;4;2;{};80,5\n"
    text = SMALL + "".join(row.format(word, i) for i in range(9) for word in ("warm", "kalt"))
    with pytest.raises(TraceError) as caught:
        rows(text)
    asked = str(caught.value).splitlines()
    assert len(asked) == 2
    assert "--skip task:warm" in asked[0]
    assert "--skip task:kalt" in asked[1]


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(TraceError, match=r": must be a table of timings, got a directory$"):
        read_text_file(tmp_path, "a table of timings")
