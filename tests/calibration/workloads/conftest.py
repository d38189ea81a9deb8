"""What holds for every test of the workloads: torch computes on one thread.

The last bits of a sum depend on the number of threads, and small networks gain nothing from more.
"""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
