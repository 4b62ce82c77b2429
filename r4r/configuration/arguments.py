"""Arguments of the command line that are no settings: what was probably meant."""

import os
import re
from collections.abc import Iterator, Sequence

from r4r.configuration.parser import hydra_parser

EMPTY_FOLDER = re.compile(r"\+{0,2}paths\.\w+=(\s*|''|\"\")")  # as good as not given
HOME_FOLDER = re.compile(r"(\+{0,2}paths\.\w+=)(['\"]?)(~[^'\",]*)\2")
VALUED = {"--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--cfg", "-c", "--package", "-p"} | {
    "--experimental-rerun"
}


def given(argv: Sequence[str]) -> list[str]:
    """The arguments without folders set to nothing, which count as not given; in others, ~ is the home folder: a shell
    expands it only where a word begins."""
    return [_at_home(argument) for argument in argv if not EMPTY_FOLDER.fullmatch(argument)]


def _at_home(argument: str) -> str:
    if argument.startswith("--config-dir=~"):
        option, _, folder = argument.partition("=")
        return f"{option}={os.path.expanduser(folder)}"
    found = HOME_FOLDER.fullmatch(argument)
    return f"{found[1]}'{os.path.expanduser(found[3])}'" if found else argument


def slips(argv: Sequence[str]) -> Iterator[str]:
    """A sentence for every argument that is neither an option of the command nor a setting."""
    options = {option for action in hydra_parser()._actions for option in action.option_strings}
    taken = ""
    for before, argument, after in zip(["", *argv], argv, [*argv[1:], ""], strict=False):
        key, sign, value = argument.partition("=")
        if argument.startswith("-"):
            if key not in options:
                bare = argument.lstrip("-")
                hint = f"a setting has no dashes: {bare}" if sign else f"a setting is key=value: {bare}=..."
                yield f"{argument}: there is no such option; {hint}"
        elif argument == "=" or (not key and sign):
            yield f"{before} {argument}: write it without spaces: {before}={value or after}"
            taken = after if not value else ""
        elif sign and not value and after and "=" not in after and not after.startswith(("-", "~")):
            yield f"{argument} {after}: write it without spaces: {argument}{after}"
            taken = after
        elif (
            argument
            and not (sign or argument.startswith("~") or argument == taken or after.startswith("="))
            and (before not in VALUED)
        ):
            yield f"{argument}: is no setting; write key=value, or see r4r --help"
