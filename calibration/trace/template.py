"""An empty trace with comments, for measurements taken by hand or by one's own program."""

from __future__ import annotations

from calibration.trace.columns import COLUMNS, FORMAT_VERSION

_LINES = """\
## A device trace: one row per measurement. Lines that begin with ## are comments.
##
## device       name of the device, the same in every row
## task         compute (training) or comm (receiving)
## total_cores  cores of the device
## comm_cores   cores given to communication, in rows of either task; the other cores compute
## work         amount done: batches for compute, MB (1e6 bytes) for comm
## unit         batch for compute, MB for comm
## repeat       number of the repeat; without a column trial each repeat is a trial
## seconds      time it took, in seconds
##
## Optional: phase (forward or backward: two rows of equal repeat and work that add up to a batch;
## every other row is a measurement of its own), trial (a fresh start of the program), condition
## (alone, contended: both sides at work), t_start (seconds), status (ok, noisy, foreign).
##
## Measure compute at comm_cores 0 .. total_cores-1 and comm at 1 .. total_cores (both ends at
## least), each several times. Example rows:
## my-board,compute,4,0,1,batch,0,0.125
## my-board,compute,4,2,1,batch,0,0.241
## my-board,comm,4,2,10,MB,0,0.083
"""


def template() -> str:
    """Return the text of an empty trace: a header, comments and the names of its columns."""
    required = ",".join(name for name, column in COLUMNS.items() if column.required)
    return f"# kdsim-trace: {FORMAT_VERSION}\n{_LINES}{required}\n"
