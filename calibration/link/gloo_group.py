"""A group of local processes that exchange tensors over gloo, out of reach of the network.

A TCP store would listen on all interfaces (torch gives no way to bind it), so that the processes
meet in a file of a private folder instead; gloo itself is bound to the loopback interface.
"""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from pathlib import Path


def join_group(meeting: str | Path, rank: int, world: int, timeout_s: float) -> None:
    """Join the processes of a group; returns when all have joined.

    Parameters
    ----------
    meeting : str or Path
        A file that does not exist before the first joins, in a folder that only this user can
        enter and that stays until the group is left.
    rank, world : int
        This process's number, and how many there are.
    timeout_s : float
        The longest wait for the others, now and in each exchange.

    Raises
    ------
    RuntimeError
        If the others do not come, as torch raises it.
    """
    # Only who asks for gloo loads torch.distributed, which re-exports the store without saying so.
    import torch.distributed as dist
    from torch._C._distributed_c10d import FileStore

    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    if loopback is not None:
        os.environ["GLOO_SOCKET_IFNAME"] = loopback
    timeout = timedelta(seconds=timeout_s)
    store = FileStore(str(meeting), world)
    store.set_timeout(timeout)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timeout)
