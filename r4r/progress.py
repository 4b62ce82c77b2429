"""Progress bars and stage lines on stderr: a bar on a terminal, plain lines in a log file."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from r4r.ranks import this_rank

console = Console(stderr=True, highlight=False, quiet=this_rank().rank > 0)
LOG_EVERY_S = 20.0  # how often a bar speaks where there is no terminal


def say(text: str) -> None:
    """One line for the person who watches."""
    console.print(text, markup=False, soft_wrap=True)


@contextmanager
def bar(label: str, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
    """A progress bar; the block gets `advance(steps, note)`, `note` being shown behind the bar.

    Args:
        total: how many steps the work has; `done` of them were finished by an earlier run.
    """
    if sys.stderr.isatty():
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console, transient=True) as live:
            task = live.add_task(label, total=total, completed=done, note="")

            def move(steps: int, note: str = "") -> None:
                live.update(task, advance=steps, note=note)

            yield move
        return
    started = last = time.monotonic()
    count = done

    def advance(steps: int, note: str = "") -> None:
        nonlocal count, last
        count += steps
        if time.monotonic() - last >= LOG_EVERY_S:
            last = time.monotonic()
            say(f"  {label}: {count}/{total}, {last - started:.0f} s {note}".rstrip())

    yield advance
