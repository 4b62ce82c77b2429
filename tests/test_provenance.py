"""Where a result was made: recorded with git, without it, and inside somebody else's repository."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from r4r import __version__, provenance
from r4r.provenance import code

NOTHING = {"git_commit": None, "git_dirty": None}
OURS = '[project]\nname = "r4r"\n'


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository whose top is r4r's own, with one commit."""
    if shutil.which("git") is None:
        pytest.skip("git is not here")
    (tmp_path / "r4r").mkdir()
    (tmp_path / "r4r" / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(OURS, encoding="utf-8")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    return tmp_path


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    code.cache_clear()
    yield
    code.cache_clear()


def test_a_checkout_of_its_own_is_named_and_marked_where_its_code_changed(checkout: Path) -> None:
    (checkout / "multirun_outputs").mkdir()
    (checkout / "multirun_outputs" / "result.json").touch()  # no code
    head = git(checkout, "rev-parse", "HEAD")
    assert code(checkout / "r4r") == {"git_commit": head, "git_dirty": False}
    code.cache_clear()
    (checkout / "r4r" / "mine.py").touch()
    assert code(checkout / "r4r") == {"git_commit": head, "git_dirty": True}


def test_it_is_read_once_in_a_process(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = code(checkout / "r4r")
    monkeypatch.setattr(provenance, "_git", lambda *arguments: pytest.fail("git was asked again"))
    assert code(checkout / "r4r") == first


@pytest.mark.parametrize("where", ["site-packages", "vendored", "hook"])
def test_another_repositorys_commit_is_not_recorded(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = checkout / "venv" / "lib" / "r4r"
    if where == "vendored":  # a copy of the package at the top of a project
        (checkout / "pyproject.toml").write_text('[project]\nname = "theirs"\n', encoding="utf-8")
        package = checkout / "r4r"
    elif where == "hook":  # r4r without git, called from a hook of a repository
        package = tmp_path_factory.mktemp("bare") / "r4r"
        (package.parent / "pyproject.toml").write_text(OURS, encoding="utf-8")
        monkeypatch.setenv("GIT_DIR", str(checkout / ".git"))
        monkeypatch.setenv("GIT_WORK_TREE", str(package.parent))
    package.mkdir(parents=True, exist_ok=True)
    assert code(package) == NOTHING


def test_without_a_git_binary_nothing_fails(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    assert code(checkout / "r4r") == NOTHING
    told = provenance.machine()
    assert told["versions"]["r4r"] == __version__
    assert told["git_commit"] is None
