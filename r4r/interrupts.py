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


class _Stop(BaseException):
    """A signal, as nobody expects one."""


@contextmanager
def unswallowed() -> Iterator[None]:
    """Hand on SIGTERM and Ctrl-C out of code that takes a KeyboardInterrupt for no reason to stop: vLLM's start."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def stop(number: int, frame: object) -> None:
        came.append(number)
        raise _Stop

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heard = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in heard:
        signal.signal(number, stop)
    try:
        yield
    except BaseException:
        if not came:
            raise
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])  # to whoever had set it up
        raise KeyboardInterrupt
