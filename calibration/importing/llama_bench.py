"""Tables of llama.cpp's ``llama-bench``: prompt processing and generation by thread count.

The program prints Markdown by default (``| model | .. | threads | test | t/s |``), and CSV, JSON
or JSON lines with ``-o``. Each row is one test of one model: ``pp512`` processes a prompt of 512
tokens, ``tg128`` generates 128. Markdown has the mean speed and its standard deviation alone;
JSON has every repetition (``samples_ns``).

A row that llama-bench ran on a GPU, in whole or part, is not a measurement of cores; a table
without thread counts (the column is left out where it is the program's default) cannot be read.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from calibration.trace.text import read_text_file
from kdsim._types import RecordView
from kdsim.errors import TraceError

_TEST = re.compile(r"(pp|tg) ?(\d{1,9})")
_SPEED = re.compile(r"(\d+\.\d+) ± (\d+\.\d+)")
#: Backends that compute on the CPU alone, as llama-bench names them.
_CPU_BACKENDS = frozenset({"CPU", "BLAS", "CPU,BLAS", "BLAS,CPU"})
_GPU_FLAGS = ("cuda", "metal", "vulkan", "opencl", "kompute", "sycl", "rpc", "gpu_blas")


@dataclass(frozen=True, slots=True)
class Result:
    """One test of one model on one thread count.

    Attributes
    ----------
    test : str
        ``pp512`` or ``tg128``.
    tokens : int
        Tokens of one repetition.
    seconds : tuple of float
        Each repetition's time where the file has it, else their mean alone.
    line : int
        Of the file (of JSON: number of the result).
    """

    model: str
    test: str
    threads: int
    tokens: int
    seconds: tuple[float, ...]
    line: int


@dataclass(frozen=True, slots=True)
class LlamaTable:
    """A file's results, and which of its formats it is in."""

    results: tuple[Result, ...]
    form: str
    sha256: str


def read_llama_bench(path: str | os.PathLike[str]) -> LlamaTable:
    """Read llama-bench's output in any of its forms but SQL.

    Parameters
    ----------
    path : path-like
        Markdown (other text around the table is skipped), CSV, JSON or JSON lines.

    Raises
    ------
    TraceError
        If there is no result, or one is damaged, lacks its thread count, or ran on a GPU.
    """
    source = read_text_file(path, "a llama-bench table")
    where, text = str(source.path), source.text
    start = text.lstrip()[:1]
    first = text.lstrip().partition("\n")[0]
    if start in "[{" and start:
        form, results = "json", _json_results(text, where)
    elif first.startswith("build_commit,") or first.startswith('"build_commit"'):
        form, results = "csv", _csv_results(text, where)
    else:
        form, results = "md", _markdown_results(text, where)
    if not results:
        raise TraceError(
            f"{where}: not a llama-bench table: no result in it (Markdown with the columns model, "
            "threads, test and t/s, or the output of -o csv, json or jsonl)"
        )
    seen: dict[tuple[str, str, int], int] = {}
    for result in results:
        key = (result.model, result.test, result.threads)
        if key in seen:
            raise TraceError(
                f"{where}:{result.line}: {result.model} {result.test} on {result.threads} threads "
                f"a second time (first at {seen[key]}): which of them counts?"
            )
        seen[key] = result.line
    return LlamaTable(tuple(results), form, source.sha256)


# --- Markdown -------------------------------------------------------------------------------------


def _markdown_results(text: str, where: str) -> list[Result]:
    results: list[Result] = []
    names: list[str] | None = None
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.lstrip().startswith("|"):
            names = None
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if "test" in cells and "t/s" in cells:
            names = cells
        elif names is not None and not set("".join(cells)) <= set("-: "):
            if len(cells) != len(names):
                raise TraceError(
                    f"{where}:{number}: must have {len(names)} cells (got {len(cells)})"
                )
            results.append(_markdown_result(dict(zip(names, cells, strict=True)), where, number))
    return results


def _markdown_result(row: Mapping[str, str], where: str, number: int) -> Result:
    place = f"{where}:{number}"
    if "threads" not in row:
        raise TraceError(
            f"{place}: no column 'threads': llama-bench leaves it out where every test ran on its "
            "default; run it with -t 1,2,4"
        )
    if row.get("backend", "CPU") not in _CPU_BACKENDS:
        raise TraceError(f"{place}: backend: must be CPU (got {row['backend']!r}): not of cores")
    test = _TEST.fullmatch(row["test"])
    if test is None:
        raise TraceError(
            f"{place}: test: must be pp or tg with a number of tokens (got {row['test'][:40]!r})"
        )
    speed = _SPEED.fullmatch(row["t/s"])
    if speed is None or not float(speed[1]) > 0:
        raise TraceError(
            f"{place}: t/s: must be like '23.18 ± 0.06' and positive (got {row['t/s'][:40]!r})"
        )
    tokens = _whole(test[2], "test", place)
    return Result(
        row.get("model", ""), f"{test[1]}{tokens}", _whole(row["threads"], "threads", place),
        tokens, (tokens / float(speed[1]),), number,
    )  # fmt: skip


# --- CSV and JSON ---------------------------------------------------------------------------------


def _csv_results(text: str, where: str) -> list[Result]:
    reader = csv.reader(io.StringIO(text, newline=""))
    results = []
    try:
        names = next(reader)
        for fields in reader:
            if not fields:
                continue
            place = f"{where}:{reader.line_num}"
            if len(fields) != len(names):
                # One published version wrote a value more than it had names: nothing is shifted.
                raise TraceError(f"{place}: must have {len(names)} fields (got {len(fields)})")
            results.append(_record(dict(zip(names, fields, strict=True)), place, reader.line_num))
    except csv.Error as error:
        raise TraceError(f"{where}:{reader.line_num}: not CSV: {error}") from error
    return results


def _json_results(text: str, where: str) -> list[Result]:
    def refuse(line: int, reason: str) -> TraceError:
        return TraceError(f"{where}:{line}: not a llama-bench table: {reason}")

    try:
        if text.lstrip().startswith("["):
            rows = json.loads(text)
        else:
            lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
            rows = [json.loads(line) for _, line in lines]
    except json.JSONDecodeError as error:
        raise refuse(error.lineno, f"not JSON ({error.msg}); is it cut off?") from error
    except (ValueError, RecursionError) as error:
        raise refuse(1, "JSON nested too deeply or with numbers beyond all measure") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise refuse(number, "each result must be an object")
    return [_record(row, f"{where}: result {i}", i) for i, row in enumerate(rows, start=1)]


def _record(row: RecordView, place: str, number: int) -> Result:
    missing = [k for k in ("n_threads", "n_prompt", "n_gen", "avg_ns") if k not in row]
    if missing:
        raise TraceError(f"{place}: {missing[0]}: missing")
    backend = str(row.get("backends", row.get("backend", "CPU")))
    on = [flag for flag in _GPU_FLAGS if str(row.get(flag, "0")).lower() in ("1", "true")]
    if on or backend not in _CPU_BACKENDS:
        raise TraceError(
            f"{place}: backend: must be CPU (got {', '.join(on) or repr(backend)}): not of cores"
        )
    prompt, generated = (_whole(row[key], key, place, low=0) for key in ("n_prompt", "n_gen"))
    if (prompt == 0) == (generated == 0):
        raise TraceError(
            f"{place}: must be a test of a prompt or of generation (got n_prompt {prompt}, n_gen "
            f"{generated})"
        )
    depth = _whole(row.get("n_depth", 0), "n_depth", place, low=0)
    test = (f"pp{prompt}" if prompt else f"tg{generated}") + (f" @ d{depth}" if depth else "")
    samples = row.get("samples_ns", [row["avg_ns"]])
    if not isinstance(samples, list) or not samples:
        raise TraceError(f"{place}: samples_ns: must be a list of numbers")
    seconds = tuple(_nanoseconds(value, place) * 1e-9 for value in samples)
    mean = _nanoseconds(row["avg_ns"], place) * 1e-9
    if abs(sum(seconds) / len(seconds) / mean - 1) > 0.01:
        raise TraceError(f"{place}: avg_ns: is not the mean of samples_ns: a damaged result")
    return Result(
        str(row.get("model_type", row.get("model_filename", ""))), test,
        _whole(row["n_threads"], "n_threads", place), prompt or generated, seconds, number,
    )  # fmt: skip


def _whole(value: object, name: str, place: str, *, low: int = 1) -> int:
    return int(_number(value, name, place, lambda n: n == int(n) and low <= n < 2**31))


def _nanoseconds(value: object, place: str) -> float:
    return _number(value, "avg_ns, samples_ns", place, lambda n: 0 < n < 1e18)


def _number(value: object, name: str, place: str, legal: Callable[[float], bool]) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(str(value))
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or not legal(number):
        raise TraceError(f"{place}: {name}: must be a legal number (got {str(value)[:40]!r})")
    return number
