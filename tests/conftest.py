"""What several tests share: a random two-layer language model that loads in milliseconds."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a worker has one core, and so do the jobs that it starts

from served_job import shared

from r4r.configuration.schema import LLMConfig, TrainerConfig
from r4r.lm.base import LanguageModel
from r4r.report.records import Run
from r4r.run import main

# a property has no time limit: the first call of a busy worker takes seconds
settings.register_profile("r4r", deadline=None)
settings.load_profile("r4r")

LoadTiny = Callable[..., LanguageModel]


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
