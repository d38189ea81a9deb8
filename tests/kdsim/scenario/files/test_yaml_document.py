"""Files that are wrong: each is refused with file, line and reason, and never a traceback."""

import os
import tempfile
from pathlib import Path

import pytest
from broken_scenarios import BASE, CORPUS
from front_door import call, spawn
from hypothesis import given, settings
from hypothesis import strategies as st

from kdsim.errors import ScenarioError
from kdsim.scenario.files.faults import FaultyFileError
from kdsim.scenario.files.yaml_document import MAX_FILE_BYTES, parse_yaml, read_yaml
from kdsim.scenario.load import load_scenario
from kdsim.scenario.validate import scenario_from_data

#: Files of the corpus that go through a second command and a process of their own as well.
FEW = ["tab-indent", "billion-laughs", "deep-nesting", "utf-16"]

TEXTS = [
    BASE,
    *(c.data.decode() for c in CORPUS.values() if c.data.isascii() and len(c.data) < 2000),
]


def assert_refused(answer, place, words):
    assert answer.code == 2, answer
    assert answer.out == ""
    assert "Traceback" not in answer.err
    assert all(line.startswith("kdsim: ") for line in answer.err.splitlines())
    assert place in answer.err
    assert "legal path" not in answer.err
    for word in words:
        assert word in answer.err


def write(folder, name):
    path = folder / f"{name}.yaml"
    path.write_bytes(CORPUS[name].data)
    return path


def test_the_file_that_the_corpus_changes_is_legal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text(BASE)
    assert call("check", "base.yaml").code == 0
    assert len(CORPUS) >= 60


@pytest.mark.parametrize("name", CORPUS)
def test_a_broken_file_is_refused_with_its_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, name)
    _, line, words = CORPUS[name]
    place = f"{path.name}:{line}:" if line else f"{path.name}:"
    # Both read the file by the same function; a few files show that compare reports the same.
    for command in ("check", "compare") if name in FEW else ("check",):
        assert_refused(call(command, path.name), place, words)


@pytest.mark.parametrize("name", FEW)
def test_a_fresh_process_refuses_it_as_well(name, tmp_path):
    write(tmp_path, name)
    answer = spawn("compare", f"{name}.yaml", cwd=tmp_path)
    assert_refused(answer, f"{name}.yaml", CORPUS[name].words)


# --- what is no file at all -----------------------------------------------------------------------


@pytest.fixture
def odd(tmp_path):
    """A folder with whatever may stand where a file should."""
    (tmp_path / "a.yaml").write_text(BASE)
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "dangling.yaml").symlink_to(tmp_path / "nowhere.yaml")
    (tmp_path / "itself.yaml").symlink_to(tmp_path / "itself.yaml")
    with (tmp_path / "big.yaml").open("wb") as file:
        file.truncate(100 * 2**20)
    (tmp_path / "closed.yaml").write_text(BASE)
    (tmp_path / "closed.yaml").chmod(0)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere/a.yaml", ["no such file"]),
        ("a.yaml/b.yaml", ["cannot be read", "Not a directory"]),
        (".", ["is a directory"]),
        ("pipe.yaml", ["not a regular file"]),  # and is not waited for
        ("/dev/zero", ["not a regular file"]),
        ("x" * 300, ["cannot be read"]),
        ("x" * 5000, ["cannot be read"]),
        ("dangling.yaml", ["no such file"]),
        ("itself.yaml", ["itself.yaml"]),
        ("big.yaml", ["too large", "100.0 MiB", "256 KiB"]),
        pytest.param(
            "closed.yaml",
            ["cannot be read", "Permission denied"],
            marks=pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything"),
        ),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else "",
)
def test_what_is_no_file_is_refused(odd, name, words):
    assert_refused(call("check", odd / name), str(odd / name), words)


@pytest.mark.parametrize("command", ["check", "compare", "run", "optimum"])
def test_every_command_names_a_file_that_is_missing(command, tmp_path):
    path = tmp_path / "nowhere.yaml"
    assert_refused(call(command, path), str(path), ["no such file"])


def test_a_path_with_a_nul():
    with pytest.raises(ScenarioError, match="not a legal path"):
        load_scenario("a\0b.yaml")


def test_the_largest_legal_file_is_read(tmp_path):
    path = tmp_path / "long.yaml"
    path.write_text(BASE + "#" * (MAX_FILE_BYTES - len(BASE)))
    assert load_scenario(path).name == "broken"
    path.write_text(BASE + "#" * (MAX_FILE_BYTES + 1 - len(BASE)))
    with pytest.raises(ScenarioError, match="too large"):
        load_scenario(path)


# --- what is odd but legal ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + BASE, BASE.replace("\n", "\r\n"), "---\n" + BASE + "...\n",
        "%YAML 1.2\n---\n" + BASE,
    ],
    ids=["byte order mark", "DOS lines", "document markers", "version"],
)  # fmt: skip
def test_marks_around_the_data_are_fine(text, tmp_path):
    (tmp_path / "a.yaml").write_bytes(text.encode())
    assert load_scenario(tmp_path / "a.yaml").workload.cycles == 3


def test_json_is_read_too(tmp_path):
    import json

    scenario = load_scenario("paper-1to1").model_dump(mode="json", exclude_none=True)
    (tmp_path / "a.json").write_text(json.dumps(scenario))
    assert load_scenario(tmp_path / "a.json") == load_scenario("paper-1to1")


def test_numbers_are_read_as_people_write_them():
    text = (
        "[1, -2, +3, 1_000, 0x1f, 0o17, 1e-3, 1E3, 1.5, .5, -.inf, true, False, ~, null, '7', 012]"
    )
    values = parse_yaml(text, "x").data
    assert values[:11] == [1, -2, 3, 1000, 31, 15, 0.001, 1000.0, 1.5, 0.5, -float("inf")]
    assert values[11:] == [True, False, None, None, "7", 12]
    assert [type(v) for v in values[:3]] == [int, int, int]


def test_positions_are_those_of_the_values():
    document = parse_yaml("a: 1\nb:\n  - 2\n  - {c: 3}\nd:\n", "x")
    assert document.positions["a",] == (1, 4)
    assert document.positions["b", 0] == (3, 5)
    assert document.positions["b", 1, "c"] == (4, 9)
    assert document.key_positions["b", 1, "c"] == (4, 6)
    assert document.positions["b",] == (2, 1)  # a block has no place of its own
    assert document.positions["d",] == (5, 1)  # nor has nothing


def test_a_file_is_named_as_the_user_named_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(FaultyFileError) as caught:
        read_yaml(tmp_path / "a.yaml", where="shown.yaml")
    assert str(caught.value).startswith("shown.yaml:1:")


# --- anything at all ------------------------------------------------------------------------------

PIECES = [
    *"[]{}:,-?&*!|>'\"%@`# \n\t~<=.019eE+_a\xe9\x85\ufeff",
    *("&a ", "*a", "!!", "<<: ", "- ", "? ", "---", "%YAML 1.1\n", "!!binary ", "!!set", "!!omap"),
    *("!!timestamp 2001-01-01", "0x", "0o", "1:2", "|\n  x"),
]


def faults_in(read):
    """Return the faults that a function raises; any other error is the test's failure."""
    try:
        read()
    except FaultyFileError as error:
        return error.faults
    return ()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage_to_a_file_is_a_fault_or_nothing(data):
    text = data.draw(st.sampled_from(TEXTS))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 5))
        text = text[:start] + data.draw(st.sampled_from(PIECES)) + text[start + length :]

    def read():
        document = parse_yaml(text, "damaged.yaml")
        scenario_from_data(document.data, document)

    for fault in faults_in(read):
        assert str(fault).startswith("damaged.yaml:")
        assert 1 <= fault.line <= text.count("\n") + 1 + text.count("\x85")
        assert fault.reason


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_fault_or_plain_data(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bytes.yaml"
        path.write_bytes(data)
        for fault in faults_in(lambda: read_yaml(path)):
            assert fault.where == str(path)
            assert fault.reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"name": "\\ud83d\\ude00 edge"}', {"name": "\U0001f600 edge"}),
        ("a: 0o17", {"a": 15}),
        ("a: 0", {"a": 0}),
        ("a: 0.5", {"a": 0.5}),
        ("a: 1:30", {"a": "1:30"}),
        (f"a: {'9' * 5000}", {"a": "9" * 5000}),
        (f"a: 0x{'f' * 5000}", {"a": "0x" + "f" * 5000}),
        # Words are text unless the file asks for YAML 1.1.
        ("[yes, no, on, off]", ["yes", "no", "on", "off"]),
        ("%YAML 1.1\n---\n[yes, no, on, off]", [True, False, True, False]),
        # An alias is a copy; an anchor may be set anew.
        ("{a: &x [1, 2], b: *x}", {"a": [1, 2], "b": [1, 2]}),
        ("[&x 1, *x, &x 2, *x]", [1, 1, 2, 2]),
        # A plain tag says what a value is; one that does not fit leaves the text.
        ("[!!str 3, !!float 3, !!int '3']", ["3", 3.0, 3]),
        ("[!!bool maybe, !!null none]", ["maybe", "none"]),
    ],
)
def test_values_are_read_as_yaml_1_2_has_them(text, expected):
    document = parse_yaml(text, "f.yaml")
    assert document.faults == []
    assert document.data == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 010", "leading zero"),
        ("a: -007", "write 7 without it"),
        ("a: [1, 08]", "f.yaml:1:8: a[1]:"),
        ('a: "\\ud83d"', "half of an escaped character"),
        ('{"\\ude00": 1}', "half of an escaped character"),
        ("1: a\n1: b", "duplicate key"),
    ],
)
def test_what_readers_of_yaml_disagree_on_is_a_fault(text, said):
    faults = parse_yaml(text, "f.yaml").faults
    assert [said in str(fault) for fault in faults] == [True]
    str(faults[0]).encode()
