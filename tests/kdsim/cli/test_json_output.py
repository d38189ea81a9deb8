"""JSON that is printed entry by entry is the JSON of the whole."""

import contextlib
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdsim.cli.options import print_json

rows = st.lists(st.dictionaries(st.text(max_size=3), st.floats() | st.integers() | st.none()))


def printed(data):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        print_json(data)
    return out.getvalue()


@given(rows)
def test_an_iterator_is_printed_as_the_list_of_its_entries(rows):
    whole = printed({"rows": rows, "n": 1})
    assert printed({"rows": iter(rows), "n": 1}) == whole
    json.loads(whole, parse_constant=pytest.fail)
