"""The benches run, at sizes that say nothing of speed, and every way writes and rates as much as the others."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parent.parent / "experiments" / "bench"


@pytest.fixture
def bench(model_cache: Path) -> Any:
    def run(script: str, *options: str) -> Any:
        command = [sys.executable, str(BENCH / script), "--model", "tiny:", "--cache", str(model_cache), *options]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout[ran.stdout.index("{" if script != "training.py" else "[") :])

    return run


def test_training(bench: Any) -> None:
    (result,) = bench("training.py", "--ways", "r4r", "--experts", "predictor", "--steps", "1", "--batch", "2")
    assert result["expert"] == "predictor"
    assert result["tokens_a_text"] > 10 * result["learnt_tokens_a_text"] > 0
    assert result["tokens_per_s"] > 0


def test_generation(bench: Any) -> None:
    result = bench("generation.py", "--prompts", "3", "--one-by-one", "2", "--tokens", "5")
    for writer in ("summarizer", "reasoner"):
        ways = result["writers"][writer]["ways"]
        assert {name: way["new_tokens"] for name, way in ways.items()} == {"transformers, one by one": 10, "hf": 15}
        limits = result["writers"][writer]["limit_seconds_a_text"]
        assert 0 < limits["together"] < limits["one_by_one"]


def test_rating(bench: Any) -> None:
    result = bench("rating.py", "--pairs", "2", "--candidates", "2", "--history", "1")
    assert set(result["seconds"]) == {"full_logits", "one_by_one", "batched", "shared"}
    assert result["largest_difference_of_a_probability"] < 1e-4


def test_headline(bench: Any) -> None:
    result = bench("headline.py", "--rows", "2", "--tokens", "3")
    assert result["rows"] == 2
    assert all(way["seconds_a_prediction"] >= way["of_which_rating"] > 0 for way in result["ways"].values())
