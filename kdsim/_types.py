"""The types of plain data: JSON and YAML objects, rows of tables, options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

#: Names and plain values. Which names there are, and the kinds of their values, is checked or
#: documented where the object is read.
Record: TypeAlias = dict[str, Any]
#: The same, for reading only.
RecordView: TypeAlias = Mapping[str, Any]
#: A record that is one row of a table.
Row: TypeAlias = RecordView
