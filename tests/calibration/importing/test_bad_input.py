"""Files and options that cannot be imported: one clear message, exit 2, nothing written."""

from __future__ import annotations

import json

import pytest
from front_door import call
from own_tables import OPTIONS

TABLE = """art;kerne_netz;kerne;menge;lauf;dauer_ms
lernen;0;4;2;0;80,5
lernen;3;4;2;0;290,5
empfang;1;4;10;0;3900,125
empfang;4;4;10;0;900,125
"""
NCNN = """loop_count = 8
num_threads = 1
powersave = 0
gpu_device = -1
cooling_down = 0
          squeezenet  min =   11.66  max =   11.80  avg =   11.74
"""
LLAMA = """| model | size | params | backend | threads | test | t/s |
| --- | ---: | ---: | --- | ---: | --- | ---: |
| llama 7B | 3.56 GiB | 6.74 B | CPU | 1 | pp 64 | 6.17 ± 0.07 |
"""
EVENT = {"ph": "X", "cat": "user_annotation", "pid": 1, "tid": 1}
KINETO = json.dumps(
    {"traceEvents": [EVENT | {"name": "forward", "ts": 0, "dur": 10},
                     EVENT | {"name": "backward", "ts": 20, "dur": 10}]}
)  # fmt: skip

BARE = ("--device", "own", "--total-cores", "4")


def _with(**words):
    """Take the mapping's options with some of them replaced or (None) left out."""
    pairs = list(zip(OPTIONS[::2], OPTIONS[1::2], strict=True))
    changed = []
    for option, text in pairs:
        name = text.split("=")[0].split(":")[0]
        if option == "--map" and name in words:
            if words[name] is not None:
                changed += [option, words[name]]
        elif not (option == "--unit" and f"unit_{name}" in words):
            changed += [option, text]
    return tuple(changed)


CSV = {
    "empty": ("", OPTIONS, "no table"),
    "comments only": ("# a\n# b\n", OPTIONS, "no table"),
    "header only": (TABLE.split("\n")[0], OPTIONS, "no measurement"),
    "binary": (b"\x89PNG\r\n\x1a\n\xff\x00", OPTIONS, "not UTF-8"),
    "NUL bytes": (TABLE.replace("80,5", "80\0"), OPTIONS, "NUL bytes"),
    "latin-1": (TABLE.replace("lernen", "üben").encode("latin-1"), OPTIONS, "not UTF-8"),
    "UTF-16 cut in half": (TABLE.encode("utf-16")[:-1], OPTIONS, "not UTF-16"),
    "another table": ("a;b\n1;2\n", OPTIONS, "no column"),
    "one column": ("a\n1\n", OPTIONS, "no column"),
    "a field too many": (TABLE.replace("80,5", "80,5;1"), OPTIONS, ":2: must have 6 fields"),
    "a field too few": (TABLE.replace(";80,5", ""), OPTIONS, ":2: must have 6 fields"),
    "cut off": (TABLE[:-20], OPTIONS, ":5: must have 6 fields"),
    "an open quote": (TABLE.replace("lernen;3", '"lernen;3'), OPTIONS, "not CSV"),
    "a column twice": (TABLE.replace("menge", "art"), OPTIONS, "no column 'menge'|there twice"),
    "words unknown": (TABLE.replace("lernen;3", "pause;3"), OPTIONS, ":3: task: must be one of"),
    "no number": (TABLE.replace("80,5", "schnell"), OPTIONS, ":2: seconds: must be a number"),
    "hex": (TABLE.replace("80,5", "0x50"), OPTIONS, ":2: seconds: must be a number"),
    "nan": (TABLE.replace("80,5", "nan"), OPTIONS, ":2: seconds: must be finite"),
    "infinite": (TABLE.replace("80,5", "inf"), OPTIONS, ":2: seconds: must be finite"),
    "negative time": (TABLE.replace("80,5", "-80,5"), OPTIONS, ":2: seconds: must be positive"),
    "no time": (TABLE.replace("80,5", "0"), OPTIONS, ":2: seconds: must be positive"),
    "an empty time": (TABLE.replace("80,5", ""), OPTIONS, ":2: seconds: must be a number"),
    "extreme time": (TABLE.replace("80,5", "1e300"), OPTIONS, ":2: seconds: must lie in"),
    "no work": (TABLE.replace("0;4;2;", "0;4;0;"), OPTIONS, ":2: work: must be positive"),
    "half a core": (TABLE.replace("3;4;2", "2,5;4;2"), OPTIONS, ":3: comm_cores: must be a whole"),
    "core counts of no machine": (TABLE.replace(";4;", ";9999;"), OPTIONS, "at most 1024"),
    "all cores given away": (TABLE.replace("lernen;3", "lernen;4"), OPTIONS, "must lie in 0..3"),
    "receiving without cores": (TABLE.replace("empfang;1", "empfang;0"), OPTIONS, "lie in 1..4"),
    "two machines": (TABLE.replace("3;4;2", "3;8;2"), OPTIONS, "a trace describes one device"),
    "points and commas": (TABLE.replace("290,5", "290.5"), OPTIONS, "has a comma, but '290.5'"),
    "thousands": (TABLE.replace("3900,125", "3.900,125"), OPTIONS, "has a comma, but|thousands"),
    "a decimal comma or thousands": (
        TABLE.replace("80,5", "80,500").replace("290,5", "290,500").replace("3900", "390"),
        OPTIONS, "--decimal comma"),
    "commas against the option": (TABLE, (*OPTIONS, "--decimal", "point"), "with decimal points"),
    "another delimiter": (TABLE, (*OPTIONS, "--delimiter", ","), "no column"),
    "an unknown delimiter": (TABLE, (*OPTIONS, "--delimiter", "x"), "delimiter"),
    "every row twice": (TABLE + TABLE.split("\n", 1)[1], OPTIONS,
                        "the same measurement as on line 2"),
    "bytes called MB": (TABLE.replace(";10;", ";10000000000;"), OPTIONS, ":4: seconds: 1e.10 MB"),
    "seconds called ms, and ns": (TABLE, _with(seconds="seconds=dauer_ms:min"), None),
    "no device": (TABLE, OPTIONS[2:], "device: which column"),
    "no unit of time": (TABLE, _with(seconds="seconds=dauer_ms"), "in which unit is 'dauer_ms'"),
    "an unknown unit of time": (TABLE, _with(seconds="seconds=dauer_ms:h"), "no column|in which"),
    "no unit of data": (TABLE, _with(unit_comm=None), ":4: work: in which unit is that of comm"),
    "an unknown unit of data": (TABLE, (*OPTIONS, "--unit", "comm=furlong"), "must be one of"),
    "a unit of no side": (TABLE, (*OPTIONS, "--unit", "gpu=MB"), "must be of compute or comm"),
    "no task": (TABLE, _with(task=None), "task: which column"),
    "no cores": (TABLE, _with(comm_cores=None), "comm_cores: which column"),
    "no seconds": (TABLE, _with(seconds=None), "seconds: which column"),
    "a mistyped column of theirs": (TABLE, _with(work="work=mengen"), "did you mean 'menge'"),
    "a mistyped column of ours": (TABLE, (*OPTIONS, "--map", "wrk=menge"), "did you mean 'work'"),
    "a map without =": (TABLE, (*OPTIONS, "--map", "work"), "must be ours=theirs"),
    "a value without :": (TABLE, (*OPTIONS, "--value", "task=x"), "--value"),
    "column and constant": (TABLE, (*OPTIONS, "--set", "work=1"), "both a column and a constant"),
    "comm and own cores": (TABLE, (*OPTIONS, "--map", "own_cores=kerne"), "one follows from"),
    "only skipped rows": (TABLE, (*OPTIONS, "--skip", "task:lernen", "--skip", "task:empfang"),
                          "no row that is not skipped"),
    "a missing mapping file": (TABLE, ("--mapping", "/no/such.yaml"), "no such file"),
}  # fmt: skip

OTHERS = {
    "no format": ("hello\nworld\n", BARE, "which format"),
    "ncnn without a network": (NCNN, BARE, "which network"),
    "ncnn, unknown network": (NCNN, (*BARE, "--network", "lenet"), "which network"),
    "ncnn without cores": (NCNN, ("--network", "squeezenet"), "how many cores"),
    "ncnn on a GPU": (NCNN.replace("-1", "0"), (*BARE, "--network", "squeezenet"), "on the CPU"),
    "ncnn cut off": (NCNN[:-3], (*BARE, "--network", "squeezenet"), ":6: a damaged line"),
    "ncnn without threads": (
        NCNN.replace("num_threads = 1\n", ""), (*BARE, "--network", "squeezenet"), "out of order"),
    "ncnn, threads beyond the cores": (
        NCNN.replace("num_threads = 1", "num_threads = 8"), (*BARE, "--network", "squeezenet"),
        "at most 4 threads"),
    "ncnn, another powersave": (
        NCNN, (*BARE, "--network", "squeezenet", "--powersave", "2"), "no run with powersave 2"),
    "llama-bench without threads": (LLAMA.replace("threads", "ngl"), BARE, "no column 'threads'"),
    "llama-bench on a GPU": (LLAMA.replace("CPU", "CUDA"), BARE, "backend: must be CPU"),
    "llama-bench, unknown test": (LLAMA, (*BARE, "--test", "pp1"), "no test 'pp1'"),
    "llama-bench cut off": (LLAMA[:-20], BARE, "must have 7 cells|t/s: must be like"),
    "kineto without cores": (KINETO, BARE, "--cores N"),
    "kineto, too many cores": (KINETO, (*BARE, "--cores", "5"), "must lie in 1..4"),
    "kineto cut off": (KINETO[:-4], (*BARE, "--cores", "1"), "not JSON"),
    "kineto, unknown ranges": (
        KINETO, (*BARE, "--cores", "1", "--forward", "f", "--backward", "b"), "no range 'f'"),
    "a device without a name": (KINETO, ("--device", " ", "--total-cores", "4", "--cores", "1"),
                                "must not be empty"),
}  # fmt: skip


def test_the_corpus_is_large_enough():
    assert len([said for *_, said in [*CSV.values(), *OTHERS.values()] if said]) >= 60


@pytest.mark.parametrize("name", [*CSV, *OTHERS])
def test_a_file_that_cannot_be_imported_is_refused_in_one_message(tmp_path, name):
    content, options, said = (CSV | OTHERS)[name]
    source, out = tmp_path / "own.txt", tmp_path / "t.csv"
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    answer = call("calibrate", "import", source, "-o", out, *options)
    if said is None:  # unusual, but legal
        assert answer.code in (0, None)
        return
    assert answer.code == 2
    assert "Traceback" not in answer.err
    assert len(answer.err) < 4000
    import re

    assert re.search(said, answer.err), answer.err
    assert not out.exists()


def test_places_that_cannot_be_written_and_files_that_are_missing_are_named(tmp_path):
    source = tmp_path / "own.csv"
    source.write_text(TABLE)
    for place in (tmp_path / "no" / "t.csv", tmp_path):
        answer = call("calibrate", "import", source, "-o", place, *OPTIONS)
        assert answer.code == 2
        assert str(place) in answer.err
    answer = call(
        "calibrate", "import", tmp_path / "absent.csv", "-o", tmp_path / "t.csv", *OPTIONS
    )
    assert answer.code == 2
    assert "absent.csv: cannot be read: No such file" in answer.err
    answer = call("calibrate", "import", source, "-o", source, *OPTIONS)
    assert answer.code == 2
    assert source.read_text() == TABLE


def test_an_import_says_what_was_written_and_what_comes_next(tmp_path):
    source, out = tmp_path / "own.csv", tmp_path / "t.csv"
    source.write_text(TABLE)
    answer = call("calibrate", "import", source, "-o", out, *OPTIONS)
    assert "written 4 rows; own, 4 cores: 2 compute, 2 comm rows" in answer.out
    assert f"Next: kdsim calibrate fit {out}" in answer.out
    again = call("calibrate", "import", source, "-o", out, *OPTIONS, "--json")
    assert json.loads(again.out)["outcome"] == "unchanged"
    log = tmp_path / "bench.log"
    log.write_text(NCNN)
    answer = call("calibrate", "import", log, "-o", tmp_path / "n.csv", *BARE, "--network",
                  "squeezenet")  # fmt: skip
    assert "proxy of training steps" in answer.out
    assert "no comm row yet: a fit needs both" in answer.out


def test_a_template_is_an_empty_trace_that_its_own_examples_fill(tmp_path):
    path = tmp_path / "mine.csv"
    assert call("calibrate", "template", "-o", path).code in (0, None)
    empty = call("calibrate", "fit", path)
    assert (empty.code, "no data row" in empty.err) == (2, True)
    assert call("calibrate", "template", "-o", path).code == 2
    text = path.read_text()
    rows = [line[3:] for line in text.splitlines() if line.startswith("## my-board")]
    path.write_text(text + "\n".join(rows) + "\n")
    from calibration.trace import read_trace

    assert len(read_trace(path).rows) == len(rows) == 3
    exported = call(
        "calibrate",
        "export",
        path,
        "-o",
        tmp_path / "out.csv",
        "--map",
        "seconds=ms:ms",
        "--map",
        "task=kind",
        "--value",
        "task:train=compute",
    )
    assert exported.code in (0, None)
    assert (tmp_path / "out.csv").read_text().splitlines()[:2] == ["ms,kind", "125,train"]
