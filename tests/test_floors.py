"""Imports point down: no room reads from a floor above it, nor from another room of its own floor."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "r4r"
MODULES = sorted(path.relative_to(PACKAGE.parent).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py"))
FLOORS = [
    {"__init__", "scale", "rows", "errors", "files", "progress", "lexicon", "interrupts", "ranks", "provenance"}
    | {"loading", "spreadsheet", "terminal", "values"},
    {"store"},
    {"configuration"},
    {"data", "prompts", "lm", "teacher", "metrics"},
    {"pipeline", "training", "reasons"},
    {"experts", "rewards"},
    {"stages"},
    {"methods"},
]
GROUND, ROOF = 0, len(FLOORS)  # files of the ground floor read each other, and so do those of the roof


def place(room: str) -> int:
    """The floor of a room; what is named nowhere stands on the roof."""
    return next((number for number, rooms in enumerate(FLOORS) if room in rooms), ROOF)


def imported(module: str, source: str) -> Iterator[tuple[int, str]]:
    """(line, room) of each import of the package in a module's source, inside of functions too."""
    parts = module.split("/")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = parts[: len(parts) - node.level] if node.level else []
            stem = [*base, *(node.module.split(".") if node.module else [])]
            names = [[*stem, alias.name] for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] == "r4r":
                room = name[1] if len(name) > 1 else "__init__"
                known = (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").exists()
                yield node.lineno, room if known else "__init__"  # `from r4r import __version__`


def violations(module: str, source: str) -> list[str]:
    room = module.split("/")[1]
    floor = place(room)
    return [
        f"{module}.py:{line} ({room}, floor {floor}) reads {other} (floor {place(other)})"
        for line, other in imported(module, source)
        if other != room and not place(other) < floor and not (place(other) == floor and floor in (GROUND, ROOF))
    ]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    source = (PACKAGE.parent / f"{module}.py").read_text(encoding="utf-8")
    assert violations(module, source) == []


def test_every_floor_is_lived_in() -> None:
    rooms = {module.split("/")[1] for module in MODULES}
    assert set().union(*FLOORS) <= rooms


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("r4r/lm/base", "from r4r.data.pools import make_pools"),
        ("r4r/lm/base", "import r4r.stages.split"),
        ("r4r/lm/base", "def f():\n    from r4r.training import expert"),
        ("r4r/lm/base", "if True:\n    from r4r import training"),
        ("r4r/lm/base", "from ..training import fit"),
        ("r4r/training/fit", "from r4r.reasons.leak import leaks_rating"),
        ("r4r/stages/split", "from r4r.methods.mf import MF"),
        ("r4r/methods/mf", "from r4r.records import Run"),
        ("r4r/configuration/schema", "from r4r.lm.base import Lora"),
    ],
)
def test_an_import_that_points_up_or_across_is_seen(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("r4r/lm/base", "from r4r.lm.chat import Chat\nfrom .chat import Chat\nfrom . import cache"),
        ("r4r/lm/base", "from r4r.configuration.schema import LLMConfig\nimport torch\nfrom r4r import __version__"),
        ("r4r/stages/split", "from r4r.training.fit import fit\nfrom r4r.data import pools"),
        ("r4r/rows", "from r4r.errors import DataError"),
        ("r4r/run", "from r4r.configuration.checks import validate\nimport r4r.methods.mf"),
    ],
)
def test_an_import_that_points_down_passes(module: str, source: str) -> None:
    assert violations(module, source) == []
