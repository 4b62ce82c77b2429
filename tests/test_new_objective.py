"""A new objective costs one file and one YAML: it enters the key, and trains."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
CLASS = '''
"""Examples count by how long their prompts are."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from r4r.lm.base import LanguageModel
from r4r.lm.loss import Example, response_loss
from r4r.training.objectives.base import Objective, encode


class Weighed(Objective):
    def __init__(self, power: Annotated[float, Field(ge=0)] = 1.0):
        self.power = power

    def encode(self, lm, texts):
        return encode(lm, texts)

    def share(self, example: Example) -> float:
        return len(example.prompt) ** self.power

    def weight(self, example: Example) -> float:
        return self.share(example) * len(example.response)

    def loss(self, lm: LanguageModel, examples: list[Example]) -> Tensor:
        return sum(self.share(example) * response_loss(lm, [example]) for example in examples)
'''
YAML = """
_target_: r4r.training.objectives.weighed.Weighed
power: 1.0
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout's package and configuration, with both files added."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("r4r", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "r4r/training/objectives/weighed.py").write_text(CLASS)
    (folder / "conf/objective/weighed.yaml").write_text(YAML)
    return folder


def run(checkout: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "r4r.run", "experiment=smoke", "target=summarizer", *overrides]
    command += ["objective@experts.summarizer.objective=weighed", f"paths.outputs={checkout / 'outputs'}"]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)


def test_it_trains_and_enters_the_key(checkout: Path) -> None:
    done = run(checkout, "experts.summarizer.objective.power=2")
    assert done.returncode == 0, done.stderr
    (manifest,) = (checkout / "outputs/artifacts/train/summarizer").glob("*/manifest.json")
    assert json.loads(manifest.read_text())["steps"] == 3
    identity = yaml.safe_load((manifest.parent / "config.yaml").read_text())
    assert identity["expert"]["objective"] == {"_target_": "r4r.training.objectives.weighed.Weighed", "power": 2}
