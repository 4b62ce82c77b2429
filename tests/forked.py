"""Processes of a test's own, forked from the process of the tests: what that has imported is not imported again."""

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft  # noqa: F401  # what a job would import: once for all processes
import pytorch_lightning  # noqa: F401
import torch
import transformers.models.llama.modeling_llama  # noqa: F401
from hydra.core.global_hydra import GlobalHydra

LIMIT_S = 300  # a mistake would wait for ever


@dataclass(frozen=True)
class Ended:
    """
    Attributes:
        returncode: minus the number of the signal that killed it, where one did.
    """

    returncode: int
    stdout: str
    stderr: str


class Forked:
    """A process that does some work and ends as Python would; start several, then wait for each.

    Args:
        work: what it does.
        environment: variables that it has besides.
        folder: where it works; None: here.
    """

    def __init__(self, work: Callable[[], Any], environment: dict[str, str] | None = None, folder: Path | None = None):
        self.said = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by `wait`
        self.process = os.fork()
        if self.process:
            return
        code = 1
        try:
            for number, file in enumerate(self.said, 1):
                os.dup2(file.fileno(), number)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job is started with it ignored
            signal.alarm(LIMIT_S)
            GlobalHydra.instance().clear()
            torch.set_num_threads(1)
            os.environ.update(environment or {})
            os.chdir(folder or os.getcwd())
            work()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def wait(self) -> Ended:
        status = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        told = []
        for file in self.said:
            file.seek(0)
            told.append(file.read())
            file.close()
        return Ended(status, *told)


def command(
    *arguments: str,
    environment: dict[str, str] | None = None,
    folder: Path | None = None,
    package: Path | None = None,
    before: Callable[[], Any] = lambda: None,
) -> Forked:
    """Start the command `r4r`.

    Args:
        before: what its process does first.
        package: a folder with another copy of the package, to be run instead.
    """

    def work() -> None:
        before()
        if package:
            for name in [name for name in sys.modules if name.partition(".")[0] == "r4r"]:
                del sys.modules[name]
            sys.path.insert(0, str(package))
        from r4r.run import main

        sys.argv = ["r4r", *arguments]
        main()

    return Forked(work, environment, folder)
