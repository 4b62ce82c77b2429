"""On a GPU, with a model of Llama-3-8B's widths and few layers (`pytest -m gpu -n 0`): the proof's own checks."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.gpu
FOLDER = Path(__file__).parent.parent / "experiments" / "gpu"


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no GPU here")
    sys.path[:0] = [str(FOLDER)]
    from setting import Setting

    return Setting(tmp_path_factory.mktemp("gpu"), rows=(1, 16))


@pytest.fixture(scope="module")
def lm(setting: Any) -> Any:
    from setting import load

    return load(setting)


@pytest.mark.parametrize(
    "name", ["gradients", "resume", "batches", "ratings", "recording", "in_float16", "two_processes"]
)
def test_it_holds_on_a_gpu(name: str, setting: Any, lm: Any) -> None:
    import checks

    facts = getattr(checks, name)(setting, lm)
    assert facts["holds"], facts


def test_a_job_fits_a_card_of_24_gb(setting: Any) -> None:
    import checks

    facts = checks.memory(setting, whole=False)
    assert facts["holds"], facts
