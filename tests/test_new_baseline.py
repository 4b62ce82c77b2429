"""The new baseline of the methods' README: two files, taken from its text, and it runs beside the others."""

import json
import re
import shutil
import sys
from collections.abc import Callable
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


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            "return point_predictions(given.wanted['row_id'], 'Mine', np.ones(3), given.scale), {}",
            "Mine: ratings of shape (3,) for 44 rows; it should be one a row",
        ),
        ("pass", "should return a table of predictions and a dictionary of facts"),
        (
            "return point_predictions(given.wanted['row_id'], 'Mine', np.ones(44), given.scale)",
            "should return a table of predictions and a dictionary of facts",
        ),
    ],
)
def test_what_a_baseline_should_return_is_a_sentence_that_names_it(
    body: str,
    told: str,
    r4r: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    head = "import numpy as np\nfrom r4r.methods import point_predictions\nfrom r4r.methods.means import Means\n"
    text = f"class Mine(Means):\n    def predictions(self, given):\n        {body}\n"
    (tmp_path / "wrong_baseline.py").write_text(head + text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "wrong_baseline", raising=False)
    mine = ["method=means", "method._target_=wrong_baseline.Mine", "plugins=[wrong_baseline]", "~references"]
    assert r4r(*mine, *SMALL[:3], f"paths.outputs={tmp_path}") == 1
    shown = capsys.readouterr().err
    assert f"r4r: wrong_baseline.Mine.predictions: {told}" in shown
    assert "Traceback" not in shown


def run(checkout: Path, *overrides: str) -> Ended:
    return command(*overrides, f"paths.outputs={checkout / 'outputs'}", folder=checkout, package=checkout).wait()
