"""Hydra's parser of command lines, on every Python."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra._internal.utils import get_args_parser


@contextmanager
def any_python() -> Iterator[None]:
    """A block in which Hydra can make its parser.

    Python 3.14 and newer look at the help of an argument as it is added. That of Hydra's `--shell-completion` is an
    object that makes its text when it is printed, which they refuse (hydra issue 3121); it gets a text here.
    """
    parser: Any = argparse.ArgumentParser
    whole = getattr(parser, "_check_help", None)
    if whole is None:
        yield
        return

    def check(self: argparse.ArgumentParser, action: argparse.Action) -> None:
        if not isinstance(action.help, str | None):
            action.help = "install or uninstall shell completion"
        whole(self, action)

    parser._check_help = check
    try:
        yield
    finally:
        parser._check_help = whole


def hydra_parser() -> argparse.ArgumentParser:
    """The parser of Hydra's options and overrides."""
    with any_python():
        return get_args_parser()
