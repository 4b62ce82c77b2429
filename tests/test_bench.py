"""The benches run, at sizes that say nothing of speed, and every way writes and rates as much as the others."""

import json
import runpy
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parent.parent / "experiments" / "bench"


@pytest.fixture
def bench(model_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """A script run in this process, which has imported what all of them need: the JSON that it prints."""
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])

    def run(script: str, *options: str, model: bool = True) -> Any:
        which = ["--model", "tiny:", "--cache", str(model_cache)] if model else []
        monkeypatch.setattr(sys, "argv", [str(BENCH / script), *which, *options])
        with suppress(SystemExit):
            runpy.run_path(str(BENCH / script), run_name="__main__")
        said = capsys.readouterr().out
        return json.loads(said[said.index("{") :]) if "{" in said else said

    return run


@pytest.mark.slow
def test_training(bench: Any) -> None:
    own = ["--here", "--ways", "r4r", "--experts", "predictor", "--steps", "1", "--batch", "2"]
    result = bench("training.py", *own)
    assert result["expert"] == "predictor"
    assert result["tokens_a_text"] > 10 * result["learnt_tokens_a_text"] > 0
    assert result["tokens_per_s"] > 0


@pytest.mark.slow
def test_each_way_trains_in_a_process_of_its_own(bench: Any, model_cache: Path) -> None:
    small = ["--ways", "r4r", "--experts", "predictor", "reward_model", "--steps", "1", "--batch", "2"]
    command = [sys.executable, str(BENCH / "training.py"), "--model", "tiny:", "--cache", str(model_cache), *small]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert [one["expert"] for one in json.loads(ran.stdout)] == ["predictor", "reward_model"]


@pytest.mark.slow
def test_attention(bench: Any) -> None:
    small = ["--layers", "1", "--hidden", "512", "--rows", "2", "--words", "20", "--tokens", "3"]
    result = bench("attention.py", *small, model=False)
    assert set(result["seconds"]) == {"writing", "rating", "training"}
    assert all(set(ways) == {"transformers", "shared"} for ways in result["seconds"].values())


@pytest.mark.slow
def test_generation(bench: Any) -> None:
    result = bench("generation.py", "--prompts", "3", "--one-by-one", "2", "--tokens", "5")
    for writer in ("summarizer", "reasoner"):
        ways = result["writers"][writer]["ways"]
        assert {name: way["new_tokens"] for name, way in ways.items()} == {"transformers, one by one": 10, "hf": 15}
        limits = result["writers"][writer]["limit_seconds_a_text"]
        assert 0 < limits["together"] < limits["one_by_one"]


@pytest.mark.slow
def test_rating(bench: Any) -> None:
    result = bench("rating.py", "--pairs", "2", "--candidates", "2", "--history", "1")
    assert set(result["seconds"]) == {"full_logits", "one_by_one", "batched", "shared"}
    assert result["largest_difference_of_a_probability"] < (1e-4 if result["dtype"] == "float32" else 1e-3)


def test_merge(bench: Any) -> None:
    result = bench("merge.py", "--learn", "2", "--rows", "3", "--tokens", "5", "--history", "1")
    ways = result["ways"]
    assert ways["float32, apart"]["mean_difference_of_ratings"] == 0
    assert 0 < ways["bf16, merged"]["largest_difference_of_ratings"] < 0.5
    assert ways["bf16, merged"]["mean_difference_of_ratings"] != ways["bf16, apart"]["mean_difference_of_ratings"]
    assert all(seconds > 0 for way in ways.values() for seconds in way["seconds"].values())


@pytest.mark.slow
def test_parts(bench: Any) -> None:
    result = bench("parts.py", "--tokens", "20")
    assert all(seconds > 0 for part in result["a step of writing"].values() for seconds in part.values())
    assert all(seconds > 0 for seconds in result["a pass of training"].values())


@pytest.mark.slow
def test_the_shape_of_llama(bench: Any, model_cache: Path, tmp_path: Path) -> None:
    """What GPU sizes are run on, small."""
    folder = tmp_path / "random"
    small = ["--layers", "1", "--hidden", "128", "--tokenizer", "tiny:", "--cache", str(model_cache)]
    assert "billion weights in" in bench("random_llama.py", str(folder), *small, model=False)
    result = bench("headline.py", "--model", f"path:{folder}", "--rows", "2", "--tokens", "3")
    assert result["ways"]["hf"]["gain"] > 0


@pytest.mark.slow
def test_scale(bench: Any) -> None:
    result = bench("scale.py", "--rows", "400", "--artifacts", "30", model=False)
    assert result["sizes"][0]["stages"]["train/summarizer"] > 0
    assert set(result["all_cached"]) == {"alone", "beside 30 artifacts"}


def test_headline(bench: Any) -> None:
    result = bench("headline.py", "--rows", "2", "--tokens", "3")
    assert result["rows"] == 2
    assert all(way["seconds_a_prediction"] >= way["of_which_rating"] > 0 for way in result["ways"].values())
