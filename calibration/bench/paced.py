"""A teacher behind a shaped link: each chunk is sent when the link would have delivered it.

The link is played by the sender, which holds a chunk back until the instant at which a link of the
given rate (or bandwidth trace) has carried all data up to its end; then the chunk crosses the
loopback interface, and receiving it costs the device what it always costs. So data arrive on time
whether or not a communication core is free to take them: what has arrived waits in the sender, as
it would in the buffers of a device.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from calibration.link.server import Source


@dataclass(frozen=True, slots=True)
class Schedule:
    """When each chunk of a run has arrived.

    Attributes
    ----------
    zero : float
        Start of the run on `time.perf_counter`, which all processes of a machine share on Linux.
    first_batch : int
        Number of the run's first batch among those of the bench; earlier ones are not held back.
    starts : tuple of int
        For each of the run's batches the place of its first chunk in `arrivals_s`.
    arrivals_s : tuple of float
        Seconds from zero, for all chunks of the run in their order.
    """

    zero: float
    first_batch: int
    starts: tuple[int, ...]
    arrivals_s: tuple[float, ...]

    def arrival(self, batch: int, chunk: int) -> float | None:
        """Return the instant at which a chunk has arrived; None for a chunk of another run."""
        number = batch - self.first_batch
        if not 0 <= number < len(self.starts):
            return None
        place = self.starts[number] + chunk
        return self.zero + self.arrivals_s[place] if place < len(self.arrivals_s) else None


class PacedSource:
    """A source that answers no earlier than a schedule allows.

    Parameters
    ----------
    source : Source
        What is sent; called from several threads, like this object itself.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._schedule: Schedule | None = None
        self._late_s: list[float] = []

    def follow(self, schedule: Schedule | None) -> None:
        """Hold chunks back as `schedule` says from now on; None sends everything at once."""
        self._schedule, self._late_s = schedule, []

    @property
    def late_s(self) -> list[float]:
        """How much later than scheduled each chunk that was waited for went out."""
        return list(self._late_s)

    def __call__(
        self, kind: int, batch: int, chunk: int
    ) -> tuple[bytes | memoryview, int | None] | None:
        """Answer a request when its chunk has arrived."""
        schedule = self._schedule
        arrival = schedule.arrival(batch, chunk) if schedule else None
        if arrival is not None and (wait := arrival - time.perf_counter()) > 0:
            time.sleep(wait)
            self._late_s.append(time.perf_counter() - arrival)
        return self._source(kind, batch, chunk)
