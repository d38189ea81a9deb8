"""A corpus of scenario files that are wrong, each with the line and the words of its message.

`BASE` is legal; most entries change one line of it. An expected line of 0 means that the fault
belongs to the whole file and carries no line.
"""

from __future__ import annotations

from typing import NamedTuple

BASE = """\
name: broken
device:
  cores: 4
  compute: {a1: 1.0, a2: 0.2}
  communication: {b1: 0.5, b2: 0.2, b3: 2.0}
workload:
  cycles: 3
  comm: 1.0
  forward: 1.0
  backward: 1.0
policies: [greedy, optimal]
replications: 5
seed: 0
"""


class Broken(NamedTuple):
    """A broken file: its bytes, the line of the (first) fault and words of the message."""

    data: bytes
    line: int
    words: tuple[str, ...]


def _changed(line: int, *text: str) -> str:
    """Replace one line of the legal file (by none, one or several others)."""
    lines = BASE.splitlines()
    lines[line - 1 : line] = text
    return "\n".join(lines) + "\n"


def _entry(text: str | bytes, line: int, *words: str) -> Broken:
    return Broken(text.encode() if isinstance(text, str) else text, line, words)


def _at(line: int, text: str, *words: str) -> Broken:
    """Make an entry whose replaced line is the faulty one."""
    return _entry(_changed(line, text), line, *words)


def _after(text: str, line: int, *words: str) -> Broken:
    """Make an entry that appends `text` to the legal file; `line` counts from its end."""
    return _entry(BASE + text, 13 + line, *words)


_LAUGHS = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)

CORPUS: dict[str, Broken] = {
    # --- not a file of this kind at all -----------------------------------------------------
    "empty": _entry("", 1, "is empty"),
    "only-comments": _entry("# nothing\n\n# here\n", 1, "is empty"),
    "only-null": _entry("null\n", 1, "must be a mapping"),
    "list-at-root": _entry("- name: a\n- name: b\n", 1, "must be a mapping"),
    "scalar-at-root": _entry("hello\n", 1, "must be a mapping"),
    "json-of-another-kind": _entry('{"a": [1, 2]}\n', 1, "unknown field"),
    "several-documents": _entry(BASE + "---\n" + BASE, 14, "several documents"),
    "binary": _entry(bytes(range(256)), 2, "not UTF-8"),
    "binary-in-line-3": _entry(b"name: a\n# b\nc: \xff\xfe\n", 3, "not UTF-8"),
    "utf-16": _entry(BASE.encode("utf-16"), 1, "not UTF-8"),
    "latin-1": _entry("name: caf\xe9\n".encode("latin-1"), 1, "not UTF-8"),
    "nul-byte": _entry(_changed(1, "name: a\x00b"), 1, "NUL"),
    "control-character": _entry(_changed(1, "name: a\x07b"), 1, "not YAML"),
    # --- syntax -----------------------------------------------------------------------------
    "tab-indent": _at(3, "\tcores: 4", "tab"),
    "unclosed-bracket": _entry(BASE + "sweep: {device.cores: [1, 2}\n", 14, "not YAML"),
    "unclosed-quote": _at(1, 'name: "broken', "not YAML", "never closed"),
    "missing-colon": _entry(_changed(7, "  cycles 3"), 8, "not YAML", "missing colon"),
    "bad-indent": _at(8, "   comm: 1.0", "not YAML"),
    "no-space-after-colon": _entry("name:broken\n", 1, "must be a mapping"),
    "undefined-alias": _at(8, "  comm: *work", "alias"),
    "tag": _at(8, "  comm: !number 1.0", "tag"),
    "python-tag": _at(1, "name: !!python/object/apply:os.system ['true']", "tag"),
    "tagged-mapping": _at(4, "  compute: !curve {a1: 1.0, a2: 0.2}", "tag"),
    "tagged-set": _at(11, "policies: !!set {greedy, optimal}", "tag"),
    "deep-nesting": _entry("a: " + "[" * 1000 + "]" * 1000 + "\n", 1, "nested too deeply"),
    "deep-mappings": _entry("{a: " * 1000 + "1" + "}" * 1000 + "\n", 1, "nested too deeply"),
    "unclosed-depth": _entry("[" * 1000, 1, "nested too deeply"),
    "billion-laughs": _entry(_LAUGHS, 0, "expands to more than", "values"),
    "self-alias": _entry("a: &a [*a]\n", 1, "refers to itself"),
    "self-alias-mapping": _entry("a: &a\n  b: *a\n", 1, "refers to itself"),
    "complex-key": _after("? [a, b]\n: 1\n", 1, "key must be plain text"),
    "merge-key": _after("<<: {seed: 3}\n", 1, "<<"),
    # --- keys -------------------------------------------------------------------------------
    "unknown-key": _after("replicas: 10\n", 1, "replicas", "did you mean 'replications'"),
    "unknown-key-far": _after("zzz: 1\n", 1, "zzz: unknown field"),
    "unknown-nested-key": _at(3, "  core: 4", "core", "did you mean 'cores'"),
    "unknown-extension": _after(
        "extensions:\n  noise: 0.1\n  prefetsch: 2\n", 3, "did you mean 'prefetch'"
    ),
    "unknown-curve-key": _at(4, "  compute: {a1: 1.0, a3: 0.2}", "a3", "known: a1, a2"),
    "duplicate-key": _after("seed: 1\n", 1, "duplicate key", "first given on line 13"),
    "duplicate-nested-key": _entry(
        _changed(8, "  comm: 1.0", "  comm: 2.0"), 9, "workload.comm", "duplicate", "line 8"
    ),
    "null-key": _after("null: 1\n", 1, "unknown field"),
    "number-key": _after("3: 1\n", 1, "unknown field"),
    # --- missing ----------------------------------------------------------------------------
    "no-name": _entry(_changed(1), 1, "name: required field is missing"),
    "no-device": _entry("\n".join([*BASE.splitlines()[:1], *BASE.splitlines()[5:]]), 1, "device"),
    "no-workload": _entry("\n".join(BASE.splitlines()[:5]), 1, "workload: required"),
    "no-cores": _entry(_changed(3), 2, "device.cores: required field is missing"),
    "no-communication": _entry(_changed(5), 2, "communication: required field is missing"),
    "no-a2": _at(4, "  compute: {a1: 1.0}", "compute.a2", "missing"),
    "empty-device": _entry(
        "name: a\ndevice:\nworkload: {cycles: 1, comm: 1, forward: 1, backward: 1}\n",
        2, "device: must be a mapping",
    ),
    "no-cycles": _entry(_changed(7), 6, "workload.cycles: required field is missing"),
    # --- types ------------------------------------------------------------------------------
    "quoted-number": _at(8, '  comm: "1.0"', "workload.comm", "must be a number", "'1.0'"),
    "quoted-count": _at(3, '  cores: "4"', "device.cores", "whole number", "'4'"),
    "boolean-as-number": _at(8, "  comm: true", "workload.comm", "number", "got true"),
    "boolean-as-count": _at(3, "  cores: true", "device.cores", "whole number", "got true"),
    "word-as-number": _at(9, "  forward: lots", "workload.forward", "number", "'lots'"),
    "date-as-number": _at(9, "  forward: 2024-01-01", "workload.forward", "number"),
    "date-as-name": _at(1, "name: {}", "name: must be text"),
    "number-as-name": _at(1, "name: 7", "name: must be text", "7"),
    "empty-name": _at(1, "name: ''", "name: must not be empty"),
    "name-with-newline": _at(1, 'name: "a\\nb"', "name"),
    "float-as-count": _at(7, "  cycles: 3.5", "workload.cycles", "whole number", "3.5"),
    "float-whole-as-count": _at(7, "  cycles: 3.0", "workload.cycles", "whole number", "3.0"),
    "null-as-number": _at(8, "  comm:", "workload.comm", "must be a number", "got nothing"),
    "mapping-as-number": _at(8, "  comm: {a: 1}", "workload.comm", "number"),
    "sexagesimal": _at(8, "  comm: 1:30", "workload.comm", "must be a number", "1:30"),
    "number-with-comma": _at(8, "  comm: 1,5", "workload.comm", "must be a number", "1,5"),
    "number-with-unit": _at(8, "  comm: 1.5 MB", "workload.comm", "must be a number"),
    "scalar-as-section": _at(4, "  compute: 3", "device.compute", "mapping", "3"),
    "list-as-section": _at(4, "  compute: [1.0, 0.2]", "device.compute", "mapping"),
    "policies-as-text": _at(11, "policies: greedy", "policies: must be a list"),
    "policy-as-number": _at(11, "policies: [greedy, 3]", "policies[1]", "must be text"),
    "octal-nonsense": _at(3, "  cores: 0o99", "device.cores", "whole number"),
    # --- values -----------------------------------------------------------------------------
    "nan": _at(8, "  comm: .nan", "workload.comm", "finite", "nan"),
    "infinity": _at(9, "  forward: .inf", "workload.forward", "finite"),
    "minus-infinity": _at(9, "  forward: -.inf", "workload.forward", "finite"),
    "overflowing-number": _at(9, "  forward: 1e400", "workload.forward", "finite"),
    "absurd-number": _at(9, "  forward: 1e300", "workload.forward", "at most"),
    "huge-integer": _at(3, "  cores: " + "9" * 5000, "device.cores"),
    "negative-work": _at(10, "  backward: -1", "workload.backward", "at least 0", "-1"),
    "negative-in-list": _at(8, "  comm: [1, -2, 3]", "workload.comm[1]", "at least 0", "-2"),
    "text-in-list": _at(8, "  comm: [1, a, 3]", "workload.comm[1]", "number", "'a'"),
    "nan-in-list": _at(8, "  comm: [1, 2, .nan]", "workload.comm[2]", "finite"),
    "list-in-list": _at(8, "  comm: [1, [2], 3]", "workload.comm[1]", "number"),
    "short-list": _at(8, "  comm: [1, 2]", "workload.comm", "one number per cycle, 3 (got 2)"),
    "long-list": _at(9, "  forward: [1, 2, 3, 4]", "workload.forward", "3 (got 4)"),
    "empty-list": _at(8, "  comm: []", "workload.comm", "must not be empty"),
    "no-work-at-all": _entry(
        BASE.replace("comm: 1.0", "comm: 0").replace("ward: 1.0", "ward: 0"), 6, "no work"
    ),
    "zero-cores": _at(3, "  cores: 0", "device.cores", "at least 1", "0"),
    "negative-cores": _at(3, "  cores: -4", "device.cores", "at least 1"),
    "huge-cores": _at(3, "  cores: 1000000000", "device.cores", "at most 1024"),
    "zero-cycles": _at(7, "  cycles: 0", "workload.cycles", "at least 1"),
    "huge-cycles": _at(7, "  cycles: 1000000000000", "workload.cycles", "at most"),
    "zero-replications": _at(12, "replications: 0", "replications", "at least 1"),
    "negative-seed": _at(13, "seed: -1", "seed", "at least 0"),
    "huge-seed": _at(13, "seed: 1e30", "seed", "whole number"),
    "negative-noise": _after("extensions: {noise: -0.1}\n", 1, "extensions.noise", "at least 0"),
    "zero-prefetch": _after("extensions: {prefetch: 0}\n", 1, "extensions.prefetch", "at least 1"),
    "zero-link": _after("link: {rate: 0}\n", 1, "link.rate", "at least"),
    "former-link": _after("extensions: {link_rate: 1}\n", 1, "link_rate", "link.rate"),
    "negative-release": _after("extensions: {release: -1}\n", 1, "release", "at least 0"),
    "extensions-as-list": _after("extensions: [noise]\n", 1, "extensions: must be a mapping"),
    # --- curves -----------------------------------------------------------------------------
    "zero-a1": _at(4, "  compute: {a1: 0, a2: 0.2}", "device.compute.a1", "greater than 0"),
    "negative-a2": _at(4, "  compute: {a1: 1, a2: -0.1}", "device.compute.a2", "at least 0"),
    "compute-pole": _at(4, "  compute: {a1: 1, a2: 0.5}", "device.compute.a2", "at c = 2", "0.5"),
    "zero-b3": _at(
        5, "  communication: {b1: 1, b2: 1, b3: 0}", "device.communication.b3", "greater than 0"
    ),
    "communication-not-positive": _at(
        5, "  communication: {b1: 0.1, b2: 1, b3: 0.5}", "device.communication", "at c = 1"
    ),
    "communication-negative-later": _at(
        5, "  communication: {b1: -1, b2: 1.5, b3: 3}", "device.communication", "at c = "
    ),
    "underflowing-rate": _at(4, "  compute: {a1: 1.0e+308, a2: 0.2}", "device.compute"),
    "overflowing-rate": _at(4, "  compute: {a1: 1.0e-320, a2: 0.2}", "device.compute"),
    "unknown-model": _at(
        4, "  compute: {model: amdal, rate1: 1, serial: 0.1}", "did you mean 'amdahl'"
    ),
    "model-as-number": _at(4, "  compute: {model: 3, rate1: 1}", "unknown model", "known"),
    "model-lacks-parameter": _at(4, "  compute: {model: usl, rate1: 1}", "sigma", "missing"),
    "model-illegal-parameter": _at(
        4, "  compute: {model: amdahl, rate1: 1, serial: 2}", "device.compute.serial", "at most 1"
    ),
    "table-lengths": _at(
        4, "  compute: {model: table, cores: [1, 2], rates: [1]}", "equally long", "2 and 1"
    ),
    "table-not-increasing": _at(
        4, "  compute: {model: table, cores: [2, 1], rates: [1, 2]}", "increase strictly"
    ),
    "table-empty": _at(4, "  compute: {model: table, cores: [], rates: []}", "must not be empty"),
    "table-zero-rate": _at(
        4, "  compute: {model: table, cores: [1, 2], rates: [1, 0]}", "rates[1]", "greater than 0"
    ),
    # --- policies -----------------------------------------------------------------------------
    "unknown-policy": _at(11, "policies: [gredy]", "policies[0]", "did you mean 'greedy'"),
    "no-policies": _at(11, "policies: []", "policies: must not be empty"),
    "policy-twice": _at(11, "policies: [greedy, greedy]", "policies[1]", "listed twice"),
    "static-without-number": _at(11, "policies: ['static:']", "unknown policy 'static:'"),
    "static-negative": _at(11, "policies: ['static:-1']", "unknown policy"),
    "static-beyond-cores": _at(11, "policies: [greedy, 'static:5']", "static:5", "4"),
    "policy-as-mapping": _at(11, "policies: [static: 3]", "policies[0]", "must be text"),
    # --- sweeps -------------------------------------------------------------------------------
    "sweep-unknown-field": _after(
        "sweep:\n  device.core: [1]\n", 2, "sweep.device.core", "did you mean 'device.cores'"
    ),
    "sweep-of-text-field": _after("sweep: {name: [1]}\n", 1, "no numeric field"),
    "sweep-of-policies": _after("sweep: {policies: [1]}\n", 1, "no numeric field"),
    "sweep-as-list": _after("sweep: [device.cores]\n", 1, "sweep: must be a mapping"),
    "sweep-empty": _after("sweep: {device.cores: []}\n", 1, "must not be empty"),
    "sweep-scalar": _after("sweep: {device.cores: 3}\n", 1, "sweep.device.cores"),
    "sweep-illegal-value": _after(
        "sweep:\n  device.cores:\n    - 2\n    - 0\n    - 3\n", 4, "cores[1]", "at least 1"
    ),
    "sweep-pole": _after("sweep: {device.compute.a2: [0.1, 0.9]}\n", 1, "[1]", "at c = "),
    "sweep-of-text-value": _after("sweep: {workload.comm: [1, x]}\n", 1, "[1]", "number", "'x'"),
    "sweep-bad-ratio": _after("sweep: {workload.ratio: ['2:1', '2-1']}\n", 1, "[1]", "ratio"),
    "sweep-zero-ratio": _after("sweep: {workload.ratio: ['0:0']}\n", 1, "[0]", "no work"),
    "sweep-null-value": _after("sweep: {device.cores: [1, null]}\n", 1, "[1]", "whole number"),
    "sweep-list-value": _after("sweep: {device.cores: [[1, 2]]}\n", 1, "[0]", "whole number"),
    "sweep-seed-fraction": _after("sweep: {seed: [0.5]}\n", 1, "seed", "whole number"),
    "sweep-oversized": _after(
        "sweep:\n"
        + "".join(
            f"  {name}: [{', '.join(str(v) for v in range(1, 301))}]\n"
            for name in ("seed", "workload.comm", "workload.forward")
        ),
        1, "too many points", "27,000,000",
    ),
    # --- designs ------------------------------------------------------------------------------
    "zip-unequal": _after(
        "sweep: {device.cores: [1, 2], seed: [1, 2, 3]}\ndesign: {method: zip}\n",
        1, "one length", "2", "3",
    ),
    "unknown-method": _after("design: {method: gird}\n", 1, "design.method", "'grid'"),
    "sobol-without-samples": _after("design: {method: sobol}\n", 1, "design.samples", "needed"),
    "grid-with-samples": _after("design: {samples: 5}\n", 1, "design.samples"),
    "range-in-grid": _after(
        "sweep:\n  workload.comm: {low: 1, high: 2}\n", 2, "needs a list of values"
    ),
    "list-in-sample": _after(
        "sweep: {workload.comm: [1, 2]}\ndesign: {method: sobol, samples: 4}\n",
        1, "needs a range",
    ),
    "range-turned": _after(
        "sweep: {workload.comm: {low: 2, high: 1}}\ndesign: {method: sobol, samples: 4}\n",
        1, "low must lie below high",
    ),
    "range-log-zero": _after(
        "sweep: {workload.comm: {low: 0, high: 1, scale: log}}\n"
        "design: {method: sobol, samples: 4}\n",
        1, "log range must be positive",
    ),
    "range-unknown-key": _after(
        "sweep: {workload.comm: {low: 0, hi: 1}}\ndesign: {method: sobol, samples: 4}\n",
        1, "hi", "unknown field",
    ),
    "sample-nothing": _after("design: {method: sobol, samples: 4}\n", 1, "design", "sweep"),
    "range-leaves-the-legal": _after(
        "sweep: {device.cores: {low: 0, high: 8}}\ndesign: {method: sobol, samples: 4}\n",
        1, "low", "at least 1",
    ),
    # --- other files ----------------------------------------------------------------------------
    "curves-missing": _entry(
        "name: a\ndevice:\n  cores: 2\n  curves: nowhere.yaml\n"
        "workload: {cycles: 1, comm: 1, forward: 1, backward: 1}\n",
        4, "nowhere.yaml: no such file", "device.curves",
    ),
    "curves-beside-compute": _at(3, "  curves: fit.yaml", "cannot stand beside"),
    "curves-as-number": _entry(
        "name: a\ndevice:\n  cores: 2\n  curves: 3\n"
        "workload: {cycles: 1, comm: 1, forward: 1, backward: 1}\n",
        4, "device.curves: must be text",
    ),
    "profile-missing": _entry(
        _changed(7, "  profile: nowhere.csv").replace("  comm: 1.0\n", "")
        .replace("  forward: 1.0\n", "").replace("  backward: 1.0\n", ""),
        7, "nowhere.csv: no such file", "workload.profile",
    ),
    "profile-beside-comm": _at(7, "  profile: p.csv", "cannot stand beside"),
}  # fmt: skip
