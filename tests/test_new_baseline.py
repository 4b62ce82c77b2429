"""The new baseline of the methods' README: two files, taken from its text, and it runs beside the others."""

import json
import re
import shutil
from pathlib import Path

import pytest
from forked import Ended, command

ROOT = Path(__file__).parent.parent
README = ROOT / "r4r" / "methods" / "README.md"
SMALL = ["dataset.world.users=20", "dataset.world.items=10", "logger=none", "~references.mf"]


def blocks() -> list[tuple[str, str]]:
    """(path, content) of the files that the section shows: a path in the prose, then the block it names."""
    section = README.read_text(encoding="utf-8").split("## A new baseline\n")[1].split("\n## ")[0]
    return re.findall(r"as `([\w/.]+)`[,:]\n\n```\w+\n(.*?)```", section, flags=re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the checkout's package and configuration, with the section's files added."""
    for name in ("r4r", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path, content in blocks():
        assert not (tmp_path / path).exists()
        (tmp_path / path).write_text(content, encoding="utf-8")
    return tmp_path


def test_the_section_shows_two_files() -> None:
    assert [path for path, _ in blocks()] == ["r4r/methods/item_knn.py", "conf/method/item_knn.yaml"]


def test_two_files_make_a_baseline(checkout: Path) -> None:
    done = run(checkout, "method=item_knn", *SMALL)
    assert done.returncode == 0, done.stderr
    record = json.loads(Path(done.stdout.strip().splitlines()[-1]).read_text())
    labels = [row["label"] for row in record["metrics"]]
    assert labels[0] == "Item kNN"
    assert "User+item bias" in labels
    assert all(row["n"] == record["metrics"][0]["n"] for row in record["metrics"])


def run(checkout: Path, *overrides: str) -> Ended:
    return command(*overrides, f"paths.outputs={checkout / 'outputs'}", folder=checkout, package=checkout).wait()
