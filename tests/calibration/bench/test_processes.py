"""What the bench's processes share, as each of them sees it."""

from __future__ import annotations

import mmap
import resource
import tempfile

import numpy as np

from calibration.bench.processes import Shared

PAGES = 2048


def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def shared_over(store):
    return Shared(lock=None, control=[], grant_end=[], done=[], store=store, slots=1, columns=16,
                  chunk_rows=64)  # fmt: skip


def test_no_chunk_pays_for_a_page_that_this_process_has_not_used_yet():
    """A new mapping of memory that is there is what a fresh process has."""
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        file.write(bytes(PAGES * mmap.PAGESIZE))
        file.flush()
        store = mmap.mmap(file.fileno(), PAGES * mmap.PAGESIZE)
        shared = shared_over(store)
        shared.map_pages()
        rows = shared.rows()
        before = faults()
        rows[:] = np.float32(1.0)
        assert faults() - before < PAGES // 20
        del rows
