"""Stopping a job: what Lightning would swallow goes on to whoever started the work."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def as_interrupts() -> Iterator[None]:
    """Hand on SIGTERM and Ctrl-C as whoever started the job set them up; Lightning would turn both into an exit."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except (SystemExit, Exception) as stop:  # raised while it handled what had really happened
        cause: BaseException | None = stop
        while cause is not None and not isinstance(cause, KeyboardInterrupt):
            cause = cause.__context__
        if cause is None and not isinstance(stop, SystemExit):
            raise
        raise cause or KeyboardInterrupt from stop
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
