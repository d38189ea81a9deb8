from __future__ import annotations

import json

import pytest

from calibration.importing.into import from_llama_bench, write_import
from calibration.importing.llama_bench import read_llama_bench
from calibration.trace import read_trace
from kdsim.errors import TraceError

#: The form that llama.cpp's README shows, with the program's own spacing.
MARKDOWN = """\
$ ./llama-bench -n 0 -n 16 -p 64 -t 1,2,4

| model                          |       size |     params | backend    |    threads | test       |              t/s |
| ------------------------------ | ---------: | ---------: | ---------- | ---------: | ---------- | ---------------: |
| llama 7B mostly Q4_0           |   3.56 GiB |     6.74 B | CPU        |          1 | pp 64      |      6.17 ± 0.07 |
| llama 7B mostly Q4_0           |   3.56 GiB |     6.74 B | CPU        |          1 | tg 16      |      4.05 ± 0.02 |
| llama 7B mostly Q4_0           |   3.56 GiB |     6.74 B | CPU        |          2 | pp 64      |     12.31 ± 0.13 |
| llama 7B mostly Q4_0           |   3.56 GiB |     6.74 B | CPU        |          4 | pp64       |     23.18 ± 0.06 |

build: 3469684 (1275)
"""  # noqa: E501 - as the program prints it


def result(threads, *, prompt=512, generated=0, samples=(2.0e9, 2.1e9, 1.9e9), **more):
    return {
        "build_commit": "3469684", "cpu_info": "A", "gpu_info": "", "backends": "CPU",
        "model_type": "llama 7B", "n_threads": threads, "n_prompt": prompt, "n_gen": generated,
        "n_depth": 0, "avg_ns": int(sum(samples) / len(samples)), "stddev_ns": 1,
        "samples_ns": [int(s) for s in samples], **more,
    }  # fmt: skip


def write(tmp_path, text):
    path = tmp_path / "bench.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_markdown_tables_are_read_by_threads(tmp_path):
    table = read_llama_bench(write(tmp_path, MARKDOWN))
    assert [(r.test, r.threads) for r in table.results] == [
        ("pp64", 1), ("tg16", 1), ("pp64", 2), ("pp64", 4),
    ]  # fmt: skip
    assert table.results[0].seconds == pytest.approx((64 / 6.17,))


def test_json_json_lines_and_csv_agree(tmp_path):
    results = [result(1), result(2, samples=(1e9, 1.1e9, 0.9e9))]
    plain = read_llama_bench(write(tmp_path, json.dumps(results))).results
    lines = "\n".join(json.dumps(r) for r in results)
    assert read_llama_bench(write(tmp_path, lines)).results == plain
    assert plain[0].seconds == pytest.approx((2.0, 2.1, 1.9))
    names = [name for name in results[0] if name != "samples_ns"]
    text = ",".join(names) + "\n"
    text += "".join(",".join(f'"{r[name]}"' for name in names) + "\n" for r in results)
    means = read_llama_bench(write(tmp_path, text)).results
    assert [r.seconds for r in means] == [pytest.approx((2.0,)), pytest.approx((1.0,))]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello", "no result in it"),
        ("[", "not JSON"),
        ("[3]", "each result must be an object"),
        (MARKDOWN.replace("|    threads ", "").replace("|          1 ", ""), "no column .threads."),
        (MARKDOWN.replace("threads", "ngl    "), "no column 'threads'"),
        (MARKDOWN.replace("CPU ", "CUDA"), "backend: must be CPU"),
        (MARKDOWN.replace("6.17 ±", "6,17 ±"), "t/s: must be like"),
        (MARKDOWN.replace("6.17 ±", "0.00 ±"), "t/s: must be like"),
        (MARKDOWN.replace("pp 64", "pp x"), "test: must be pp or tg"),
        (MARKDOWN.replace("tg 16 ", "pp 64 "), "a second time"),
        (MARKDOWN[: MARKDOWN.index("23.18")], "must have 7 cells"),
        (json.dumps([result(1, n_gpu_layers=99, cuda=True)]), "backend: must be CPU"),
        (json.dumps([result(1, backends="Metal,BLAS")]), "backend: must be CPU"),
        (json.dumps([result(0)]), "n_threads: must be a legal number"),
        (json.dumps([result(1.5)]), "n_threads: must be a legal number"),
        (json.dumps([result(1, generated=8)]), "must be a test of a prompt or of generation"),
        (json.dumps([result(1) | {"avg_ns": 5}]), "is not the mean of samples_ns"),
        (json.dumps([result(1) | {"samples_ns": []}]), "samples_ns: must be a list"),
        (json.dumps([{"n_threads": 1}]), "n_prompt: missing"),
        # As llama.cpp's README of 2024 has it: a value more than names.
        ('build_commit,n_threads,n_prompt\n"3","1","1","512"\n', "must have 3 fields .got 4."),
    ],
)
def test_what_is_no_table_of_cores_is_refused(tmp_path, text, said):
    with pytest.raises(TraceError, match=said):
        read_llama_bench(write(tmp_path, text))


def test_a_test_is_chosen_and_threads_beyond_the_cores_are_left_out(tmp_path):
    path = write(tmp_path, MARKDOWN)
    with pytest.raises(TraceError, match=r"which test\? --test one of 'pp64', 'tg16'"):
        from_llama_bench(path, device="own", total_cores=2, test=None)
    got = from_llama_bench(path, device="own", total_cores=2, test="pp64")
    assert [r["comm_cores"] for r in got.records] == [1, 0]
    assert any("[4] threads on 2 cores" in note for note in got.origin["notes"])
    write_import(got, tmp_path / "t.csv", add=False)
    assert "proxy" in read_trace(tmp_path / "t.csv").header["origin"][0]["notes"][0]
