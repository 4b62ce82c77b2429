"""Progress bars and stage lines on stderr, and all of it in the job's log: what is done, how fast, how long still."""

import re
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from r4r.ranks import this_rank

console = Console(stderr=True, highlight=False, quiet=this_rank().rank > 0)
LOG_EVERY_S = 20.0  # how often a bar speaks where there is no terminal
ENOUGH_S = 10.0  # of stages, to compare two machines by
LOG = "job.log"  # in the job's folder
QUIET, USUAL, ALL = 0, 1, 2  # levels of `verbose`
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass
class Watch:
    """What is told of a job, and what is known of its stages.

    Attributes:
        verbose: QUIET: nothing but results and errors; USUAL: on a terminal bars, else a line a stage; ALL: more.
        log: the job's log, which has every line whatever `verbose` says.
        expected: seconds that each stage of the plan takes, by name and key; None where no earlier build tells.
        elsewhere: the stages of which another machine's builds tell.
        finished: the stages that are done, or were in the store.
        begun: when the stage that is being built began, by `time.monotonic`.
        took: seconds that each stage took which this job built.
    """

    verbose: int = USUAL
    log: TextIO | None = None
    expected: Mapping[tuple[str, str], float | None] = field(default_factory=dict)
    elsewhere: Collection[tuple[str, str]] = ()
    finished: set[tuple[str, str]] = field(default_factory=set)
    begun: dict[tuple[str, str], float] = field(default_factory=dict)
    took: dict[tuple[str, str], float] = field(default_factory=dict)

    def left(self) -> float | None:
        """Seconds that the job still takes, as far as is known; None where nothing is."""
        waiting = {stage: s for stage, s in self.expected.items() if stage not in self.finished and s is not None}
        if not waiting:
            return None
        now, slower = time.monotonic(), self.slower()
        return sum(
            max(0.0, s * (slower if stage in self.elsewhere else 1.0) - (now - self.begun.get(stage, now)))
            for stage, s in waiting.items()
        )

    def slower(self) -> float:
        """How many times as long as on another machine the stages took so far of which that one tells."""
        done = [stage for stage in self.elsewhere if stage in self.took]
        told = sum(self.expected[stage] or 0.0 for stage in done)
        return sum(self.took[stage] for stage in done) / told if told >= ENOUGH_S else 1.0

    def told(self) -> str:
        """How far the job is, in words; empty where it has no plan."""
        if not self.expected:
            return ""
        seconds = self.left()
        unknown = sum(s is None for stage, s in self.expected.items() if stage not in self.finished)
        parts = [f"about {span(seconds)}"] if seconds else []
        parts += [f"{unknown} {'stage' if unknown == 1 else 'stages'} of unknown length"] if unknown else []
        rest = f", {' and '.join(parts)} left" if parts else ""
        return f" ({len(self.finished & self.expected.keys())} of {len(self.expected)} stages{rest})"


_watch = Watch()


@contextmanager
def watching(verbose: int = USUAL, folder: Path | None = None) -> Iterator[None]:
    """Tell of one job: so much on stderr, and everything in `folder/job.log`, behind what an earlier run wrote there.

    A disk that takes no log does not stop the job.
    """
    global _watch
    before, log = _watch, None
    if folder is not None and this_rank().rank == 0:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            log = (folder / LOG).open("a", encoding="utf-8", errors="replace")
    _watch = Watch(verbose, log)
    try:
        yield
    except BaseException as error:  # its own words alone: those of what caused it may hold more than is to be kept
        note(f"ended by {type(error).__name__}: {error}")
        raise
    finally:
        _watch = before
        if log is not None:
            with suppress(OSError):
                log.close()


def expect(seconds: Mapping[tuple[str, str], float | None], elsewhere: Collection[tuple[str, str]] = ()) -> None:
    """Note how long each stage of the job is expected to take, those in the store included (0).

    Args:
        elsewhere: the stages of which another machine's builds tell.
    """
    _watch.expected, _watch.elsewhere = dict(seconds), elsewhere


def say(text: str, level: int = USUAL) -> None:
    """One line for the person who watches, and for the log.

    Args:
        level: of `verbose`, from which on it is shown.
    """
    _show(text, level)
    note(text)


def _show(text: str, level: int) -> None:
    if _watch.verbose >= level:
        console.print(text, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """One line for the log alone."""
    if _watch.log is not None:
        with suppress(OSError, ValueError):  # a full disk; a log that another thread closed
            _watch.log.write(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {CONTROL.sub('?', text)}\n")
            _watch.log.flush()


def found_stage(name: str, key: str) -> None:
    """Say that a stage is in the store."""
    _watch.finished.add((name, key))
    say(f"hit   {name} {key}")


def begin_stage(name: str, key: str) -> None:
    """Say that a stage is being built; where there is no terminal, its one line comes at its end."""
    _watch.begun[name, key] = time.monotonic()
    say(f"build {name} {key}", USUAL if sys.stderr.isatty() else ALL)


def end_stage(name: str, key: str, seconds: float) -> None:
    """Say that a stage is built, and how long the job still takes."""
    _watch.finished.add((name, key))
    _watch.took[name, key] = seconds
    took = f"in {span(seconds)}{_watch.told()}"
    begun = sys.stderr.isatty() or _watch.verbose >= ALL  # and so its beginning was told
    _show(f"done  {name} {took}" if begun else f"build {name} {key} {took}", USUAL)
    note(f"done  {name} {took}")


def span(seconds: float) -> str:
    """A duration in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def rate(steps: float, seconds: float) -> str:
    """How fast, in words: steps a second, or seconds a step."""
    if not steps or not seconds:
        return ""
    return f"{steps / seconds:.1f}/s" if steps >= seconds else f"{seconds / steps:.1f} s each"


class _Pace(ProgressColumn):
    """Rate, time left of the bar, time left of the job."""

    def render(self, task: Task) -> Text:
        parts = [rate(task.speed, 1.0)] if task.speed else []
        if task.time_remaining is not None:
            parts.append(f"{span(task.time_remaining)} left")
        whole = _watch.left()
        if whole is not None:
            parts.append(f"job: about {span(max(whole, task.time_remaining or 0.0))} left")
        return Text(", ".join(parts), style="progress.remaining", no_wrap=True, overflow="ellipsis")


@contextmanager
def bar(label: str, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
    """A progress bar; the block gets `advance(steps, note)`, `note` being shown behind the bar.

    Where there is no terminal, and in the log, it is a line every `LOG_EVERY_S` seconds.

    Args:
        total: how many steps the work has; `done` of them were finished by an earlier run.
    """
    started = last = time.monotonic()
    count = done
    live = task = None

    def advance(steps: int, note_: str = "") -> None:
        nonlocal count, last
        count += steps
        if live is not None and task is not None:
            live.update(task, advance=steps, note=note_)
        now = time.monotonic()
        if now - last >= LOG_EVERY_S:
            last = now
            passed = now - started
            pace = rate(count - done, passed)
            left = f", {span((total - count) * passed / (count - done))} left" if total > count > done else ""
            line = (
                f"  {label}: {count}/{total}, {span(passed)}{f', {pace}' if pace else ''}{left}{_watch.told()} {note_}"
            )
            if live is None:
                say(line.rstrip(), ALL)
            else:
                note(line.rstrip())

    if sys.stderr.isatty() and _watch.verbose >= USUAL:
        columns = (
            TextColumn("  {task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _Pace(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=console, transient=True) as live:
            task = live.add_task(label, total=total, completed=done, note="")
            yield advance
        return
    yield advance
