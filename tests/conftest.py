"""What several tests share: a random two-layer language model that loads in milliseconds."""

import gc
import os
import shutil
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra._internal.hydra import Hydra
from hypothesis import settings
from matplotlib.figure import Figure

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a worker has one core, and so do the jobs that it starts

from served_job import shared, smoked

from r4r.configuration import preflight
from r4r.configuration.composing import make_loader
from r4r.configuration.schema import LLMConfig, TrainerConfig
from r4r.files import settle_folders
from r4r.lm.base import LanguageModel
from r4r.report.records import Run
from r4r.run import main

# a property has no time limit: the first call of a busy worker takes seconds
settings.register_profile("r4r", deadline=None)
settings.load_profile("r4r")

# a forked process makes PyTorch's pool of threads anew at the first call of it, which several threads at once get wrong
os.register_at_fork(after_in_child=lambda: torch.set_num_threads(torch.get_num_threads()))

LoadTiny = Callable[..., LanguageModel]
DRAW = Figure.savefig
DOT = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")


@pytest.fixture(scope="module", autouse=True)
def _short_collections() -> None:
    """The garbage collections of a job need not go through all that was imported and made before the module."""
    gc.collect()
    gc.freeze()


def dot(figure: Figure, file: Any, **settings: Any) -> None:
    file.write(DOT) if hasattr(file, "write") else Path(file).write_bytes(DOT)


@pytest.fixture(scope="session", autouse=True)
def _dots() -> Iterator[None]:
    """A figure is made but not drawn, which would take longer than the trainings of its job."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", dot)
        yield


@pytest.fixture(scope="session", autouse=True)
def _composed_once() -> Iterator[None]:
    """Command lines are checked with one loader of the files in conf/, and Hydra does not compose a job once more to
    learn its own mode, which no file sets."""
    loader, whole = make_loader(), Hydra.get_mode

    def shared_loader(own: str | None = None) -> Any:
        settle_folders()
        return make_loader(own) if own else loader

    def get_mode(hydra: Hydra, config_name: str | None, overrides: list[str]) -> Any:
        asked = any("hydra.mode" in override for override in overrides)
        return whole(hydra, config_name, overrides) if asked else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preflight, "make_loader", shared_loader)
        patch.setattr(Hydra, "get_mode", get_mode)
        yield


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that look at a figure: it is drawn."""
    monkeypatch.setattr(Figure, "savefig", DRAW)


@pytest.fixture
def r4r(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command `r4r`, in process: takes its arguments, returns its exit code."""

    def call(*argv: str) -> int:
        monkeypatch.setattr(sys, "argv", ["r4r", *argv])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return call


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny model's files lie."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def load_tiny(model_cache: Path) -> LoadTiny:
    """Load a tiny model of one's own, to put adapters on; takes settings of LLMConfig."""

    def load(**settings: Any) -> LanguageModel:
        spec = LLMConfig(**({"name": "tiny", "source": "tiny:", "dtype": "float32"} | settings))
        return LanguageModel.load(spec, TrainerConfig(accelerator="cpu", threads=1), model_cache)

    return load


@pytest.fixture(scope="session")
def tiny(load_tiny: LoadTiny) -> LanguageModel:
    """One tiny model for all tests that only read with it; put no adapter on it."""
    return load_tiny()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished job on the tiny model, made once for all workers; nobody may write into its folder."""
    return shared(tmp_path_factory)


@pytest.fixture(scope="session")
def store_of_a_finished_job(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], None]:
    """Put what a finished job of the smoke preset built below a folder of outputs: another job there builds only what
    it does not share with that one."""

    def copy(outputs: Path) -> None:
        built = Path(smoked(tmp_path_factory).config["paths"]["artifacts"])
        shutil.copytree(built, outputs / "artifacts", ignore=shutil.ignore_patterns("*.lock"))

    return copy
