"""A training where memory runs out: in smaller passes to the same adapter, or a sentence that says what helps."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from trained import Load, adapter, farthest, train

from r4r.errors import TrainingError
from r4r.lm.base import LanguageModel
from r4r.lm.loss import Example, response_loss
from r4r.lm.memory import Shape, shape_of
from r4r.training import memory, ranks
from r4r.training.memory import tokens_for
from r4r.training.objectives import sft


def test_passes_are_halved_where_memory_runs_out(
    load_tiny: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    calls: list[int] = []

    def short(lm: LanguageModel, examples: list[Example]) -> Tensor:
        calls.append(len(examples) * max(len(e) for e in examples))
        if calls[-1] > 300 and len(calls) > 1:  # one pass still fits, then something else takes the memory
            raise torch.OutOfMemoryError("CUDA out of memory")
        return response_loss(lm, examples)

    monkeypatch.setattr(sft, "response_loss", short)
    steps: list[float] = []
    facts = train(
        load_tiny(), tmp_path / "short", lambda m: steps.append(m["predictor/train/step"]), epochs=3, batch_size=8
    )
    assert max(calls[1:]) > 300
    assert calls[-1] <= 300
    assert steps == [1, 2, 3]
    assert facts["passes_a_step"] > 1
    assert "memory ran out; going on with passes of" in capfd.readouterr().err
    train(load_tiny(), tmp_path / "roomy", epochs=3, batch_size=8, micro_batch_tokens=2048)
    assert farthest(adapter(tmp_path / "roomy"), adapter(tmp_path / "short")) < 1e-5


def test_memory_that_runs_out_in_the_optimizer_is_told(
    load_tiny: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(optimizer: Any, closure: Any) -> Any:
        closure()  # Lightning's: forward, backward, clipping
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(TrainingError, match=r"as the optimizer moved the weights.*trainer\.micro_batch_tokens"):
        train(load_tiny(), tmp_path)


def test_a_training_gives_back_what_it_does_not_use(
    load_tiny: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each process's GPU: else who writes next, on the same ones, finds no room."""
    told: list[str] = []
    monkeypatch.setattr(memory, "release", lambda: told.append("released"))
    monkeypatch.setattr(ranks, "every", lambda own: told.append("met") or [own])
    train(load_tiny(), tmp_path)
    assert told[-2:] == ["released", "met"]


def test_an_example_that_does_not_fit_names_what_changes_no_artifact_first(
    load_tiny: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(lm: LanguageModel, examples: list[Example]) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(sft, "response_loss", none)
    with pytest.raises(
        TrainingError, match=r"one example of \d+ tokens.*gradient_checkpointing=true.*quantization=nf4"
    ):
        train(load_tiny(), tmp_path)
    assert not (tmp_path / "adapter").exists()


def test_the_size_of_a_pass_follows_from_the_free_memory(tiny: LanguageModel) -> None:
    small = shape_of(tiny.causal)
    sizes = [tokens_for(free * 2**30, small, 2, checkpointing)[0] for free in (0.001, 1) for checkpointing in (0, 1)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[1]
    llama3_8b = Shape(linear=0, rest=0, cached=0, layers=32, hidden=4096, intermediate=14336, vocabulary=128256)
    assert 1000 < tokens_for(18 * 2**30, llama3_8b, 2, False)[0] < 4000  # 24 GB beside the weights in NF4
    assert tokens_for(18 * 2**30, llama3_8b, 2, True)[0] > 15_000
