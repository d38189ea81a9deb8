"""The device's buffer: data that the link has delivered and no core has processed yet."""

from __future__ import annotations

from kdsim.model.link import Link

#: A share of the data that is rounding.
_NOTHING = 1e-12


class Buffer:
    """What waits on the device, without a limit; the pool fills it and takes from it.

    Parameters
    ----------
    link : Link
    total : float
        Data units that the whole run receives.

    Attributes
    ----------
    held : float
        Data units that wait now.
    shared : bool
        Whether computation uses the time that starving cores do not need.
    """

    def __init__(self, link: Link, total: float) -> None:
        times, rates, _ = link.stretches([total])
        self._times: list[float] = times.tolist()
        self._rates: list[float] = rates.tolist()
        self._at = 0
        self.shared = link.starved == "shared"
        self.held = 0.0
        self._most = 0.0
        self._total = self._unprocessed = total

    @property
    def peak(self) -> float:
        """Most data units that ever waited at an instant at which anything changed."""
        return self._most if self._most > _NOTHING * self._total else 0.0

    @property
    def rate(self) -> float:
        """Data units per second that the link delivers now."""
        return self._rates[self._at]

    @property
    def next_change(self) -> float:
        """When the link's rate changes."""
        return self._times[self._at + 1]

    def fill(self, begin: float, end: float) -> None:
        """Take in what arrives between two instants while nothing is processed."""
        at, held = self._at, self.held
        while self._times[at + 1] <= end:
            held += self._rates[at] * (self._times[at + 1] - begin)
            begin = self._times[at + 1]
            at += 1
        self._at = at
        self.hold(held + self._rates[at] * (end - begin))

    def flow(self, rate: float, processed: float, seconds: float) -> None:
        """Take in at one rate and process at another, for some seconds of one stretch."""
        self._unprocessed -= processed * seconds
        self.hold(self.held + (rate - processed) * seconds)

    def hold(self, amount: float) -> None:
        """Hold so many data units."""
        self.held = amount
        # The link is not followed beyond the last of the data: what it could carry is not there.
        self._most = max(self._most, min(amount, self._unprocessed))

    def turn(self) -> None:
        """Go on to the link's next stretch."""
        self._at += 1
