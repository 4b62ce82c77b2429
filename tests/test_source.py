"""Code that is not r4r's released own is part of the keys of what it shapes, whichever of its files changes."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from plain_stage import Plain, plain_stage

from r4r.pipeline.stage import Unkeyed
from r4r.store import source
from r4r.store.source import own_digests, source_identity

ROOT = Path(__file__).parent.parent
FILES = {
    "mine/__init__.py": "",
    "mine/knn.py": "import numpy\nfrom .near import distance\nfrom mine import deep\nclass KNN: pass\n",
    "mine/near.py": "def distance():\n    import shared\n",
    "mine/deep/__init__.py": "",
    "mine/deep/words.py": "",
    "mine/other.py": "",
    "mine/prompt.txt": "Rate it.",
    "mine/words/all.txt": "Good.",
    "mine/multirun_outputs/result.json": "{}",
    "mine/out/artifacts/split/manifest.json": "{}",
    "mine/out/runs/result.json": "{}",
    "mine/.git/note.txt": "x",
    "shared.py": "import importlib\nlazy = lambda: importlib.import_module('late')\n",
    "late.py": "",
    "apart.py": "",
}
COUNTED = {"mine/__init__.py", "mine/knn.py", "mine/near.py", "mine/deep/__init__.py", "mine/prompt.txt", "shared.py"}
COUNTED |= {"mine/words/all.txt"}
SHOW = "import json, sys; from r4r.store.source import source_of; print(json.dumps(source_of(sys.argv[1])))"


def lie(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def identity(folder: Path, target: str = "mine.knn.KNN") -> dict[str, str]:
    """Of a class in a folder, by a process of its own."""
    environment = os.environ | {"PYTHONPATH": f"{folder}:{ROOT}"}
    argv = [sys.executable, "-c", SHOW, target]
    return json.loads(
        subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout
    )


def test_the_files_behind_a_class_are_found_and_each_of_them_counts(tmp_path: Path) -> None:
    lie(tmp_path, FILES)
    before = identity(tmp_path)
    assert set(before) == COUNTED | {"late.py"}
    for name in COUNTED | {"late.py"}:
        lie(tmp_path, {name: FILES[name] + "# changed\n"})
    after = identity(tmp_path)
    assert all(after[name] != before[name] for name in before)
    lie(tmp_path, {"apart.py": "# changed", "mine/other.py": "# changed"})
    assert identity(tmp_path) == after


def test_line_ends_do_not_count(tmp_path: Path) -> None:
    lie(tmp_path, {"alone.py": "class A:\n    pass\n"})
    before = identity(tmp_path, "alone.A")
    (tmp_path / "alone.py").write_bytes(b"class A:\r\n    pass\r\n")
    assert identity(tmp_path, "alone.A") == before


def test_a_base_class_in_another_folder_counts(tmp_path: Path) -> None:
    lie(tmp_path, {"base.py": "class Base: pass\n", "leaf.py": "from base import Base\nclass Leaf(Base): pass\n"})
    assert set(identity(tmp_path, "leaf.Leaf")) == {"base.py", "leaf.py"}


def test_of_an_installed_package_its_own_modules_count_and_no_others(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    lie(site, {"one/__init__.py": "import two", "one/a.py": "from one import b\nclass A: pass", "one/b.py": ""})
    lie(site, {"two/__init__.py": ""})
    assert set(identity(site, "one.a.A")) == {"one/__init__.py", "one/a.py", "one/b.py"}


def test_r4rs_modules_are_the_released_ones() -> None:
    told = dict(reversed(line.split("  ")) for line in source.RELEASED.read_text().splitlines())
    assert told == own_digests(), (
        "modules of r4r have changed: raise the VERSION of each stage whose output changes, then run "
        "`python -m r4r.store.source`, which declares them released"
    )


def test_a_function_is_told_by_what_its_closure_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(lie(tmp_path, {"texts_of_mine.py": "def texts(): return 1\nclass Reader: pass\n"})))
    import texts_of_mine

    def building_with(held: object) -> Callable[[], object]:
        return lambda: held

    for held in (texts_of_mine.texts, texts_of_mine.Reader, texts_of_mine.Reader()):
        assert "texts_of_mine.py" in source_identity(building_with(held))


@pytest.mark.parametrize(("changed", "counted"), [("progress.py", {"r4r/progress.py"}), ("run.py", set())])
def test_a_changed_checkout_of_r4r_counts_where_the_change_is_used(
    tmp_path: Path, changed: str, counted: set[str]
) -> None:
    shutil.copytree(ROOT / "r4r", tmp_path / "r4r", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "r4r.store.source"], cwd=tmp_path, check=True, capture_output=True)
    assert identity(tmp_path, "r4r.store.journal.Journal") == {}
    file = tmp_path / "r4r" / changed
    file.write_text(file.read_text() + "\n# changed\n")
    assert set(identity(tmp_path, "r4r.store.journal.Journal")) == counted


def test_a_stages_key_holds_the_source_of_its_build_and_of_the_classes_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "class Mine:\n    def build(self, work): return {}\n"
    monkeypatch.syspath_prepend(str(lie(tmp_path, {"method_of_mine.py": text})))
    import method_of_mine

    built = plain_stage("predict/x", method_of_mine.Mine().build)
    named = plain_stage("train/x", json.dumps, expert={"_target_": "method_of_mine.Mine"})
    keys = built.key, named.key
    assert set(built.unreleased) == set(named.unreleased) == {"method_of_mine.py"}
    lie(tmp_path, {"method_of_mine.py": text + "# changed\n"})
    assert (replace(built).key, replace(named).key) == keys  # the code that is loaded is the old one
    importlib.reload(method_of_mine)
    assert plain_stage("predict/x", method_of_mine.Mine().build).key != keys[0]
    assert replace(named).key != keys[1]


@dataclass(frozen=True)
class Sourced(Plain):
    """As a baseline's predictions and a kind of reasons have it."""

    source: str


def test_a_field_of_any_name_is_in_the_key_of_a_stage_with_code_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(lie(tmp_path, {"field_of_mine.py": "def build(work): return {}\n"})))
    import field_of_mine

    made = [Sourced("x", Unkeyed(field_of_mine.build), {}, {}, Unkeyed(None), name) for name in ("train", "valid")]
    assert all(stage.unreleased for stage in made)
    assert made[0].key != made[1].key
