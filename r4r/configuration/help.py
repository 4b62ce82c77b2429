"""`r4r --help`: the template that conf/config.yaml holds, filled in without Hydra, whose composition takes seconds."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from r4r.files import conf_dir

NOT_LISTED = {"hydra"}  # groups of Hydra's own


def help_text(folders: Sequence[Path] = ()) -> str:
    """The text.

    Args:
        folders: of the user's own options, listed with r4r's.
    """
    shown = yaml.load((conf_dir() / "config.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)["hydra"]["help"]
    options: dict[str, set[str]] = {}
    for folder in [conf_dir(), *folders]:
        for group, option in _options(folder):
            options.setdefault(group, set()).add(option)
    groups = "\n".join(f"{group}: {', '.join(sorted(options[group]))}" for group in sorted(options))
    text = shown["template"].replace("${hydra.help.header}", shown["header"])
    return text.replace("$APP_CONFIG_GROUPS", f"{groups}\n")


def _options(folder: Path) -> Iterator[tuple[str, str]]:
    """(group, option) of every YAML file below a folder."""
    for file in folder.rglob("*.yaml"):
        group = file.parent.relative_to(folder).as_posix()
        if group != "." and group.split("/")[0] not in NOT_LISTED:
            yield group, file.stem
