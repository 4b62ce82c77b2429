"""How fast calls may be sent: requests and tokens a minute, and the pauses that a server asks for."""

import asyncio
import time


class Halted(Exception):
    """Another call found that none can succeed: waiting ones give up."""


class Pace:
    """Spreads calls evenly, so that no minute holds more than is allowed. One process's calls only."""

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None):
        self._requests = requests_per_minute
        self._tokens = tokens_per_minute
        self._next = self._paused = 0.0  # monotonic seconds
        self.halt = asyncio.Event()

    def pause(self, seconds: float) -> None:
        """Nothing is sent for so long."""
        self._paused = max(self._paused, time.monotonic() + seconds)

    async def turn(self, tokens: int) -> None:
        """Wait until a call of so many tokens may be sent.

        Raises:
            Halted: no call is sent any more.
        """
        now = time.monotonic()
        start = max(now, self._next)
        gap = max(60 / self._requests if self._requests else 0.0, 60 * tokens / self._tokens if self._tokens else 0.0)
        self._next = start + gap
        while (left := max(start, self._paused) - time.monotonic()) > 0:
            await self.sleep(left)
        if self.halt.is_set():
            raise Halted

    async def sleep(self, seconds: float) -> None:
        """
        Raises:
            Halted: as soon as no call is sent any more.
        """
        try:
            await asyncio.wait_for(self.halt.wait(), seconds)
        except TimeoutError:
            return
        raise Halted
