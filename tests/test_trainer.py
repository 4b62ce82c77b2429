"""Lightning's Trainer: its arguments and callbacks, what is held out and measured, and what enters an adapter's key."""

from pathlib import Path

import pytest
import torch
from trained import TEXTS, Load, adapter, farthest, train

from r4r.configuration.schema import TrainerConfig
from r4r.configuration.trainer import TAKEN, trainer_arguments
from r4r.errors import TrainingError
from r4r.lm.loss import response_loss
from r4r.training.objectives.base import encode


def test_held_out_texts_are_measured_after_each_epoch(load_tiny: Load, tmp_path: Path) -> None:
    lm, seen = load_tiny(), []
    train(lm, tmp_path, seen.append, valid=[(9, "lyrics", "the vocals"), (10, "music", "a melody")], epochs=3)
    losses = [entry["predictor/valid/loss"] for entry in seen if "predictor/valid/loss" in entry]
    assert len(losses) == 3
    with torch.no_grad(), lm.using("predictor"):
        examples = encode(lm, [(9, "lyrics", "the vocals"), (10, "music", "a melody")])
        possible = [float(response_loss(lm, [e])) / len(e.response) for e in examples]
    assert losses[-1] in [pytest.approx(loss, abs=1e-4) for loss in possible]  # one text to eight examples
    steps = [entry["predictor/train/step"] for entry in seen if "predictor/valid/loss" in entry]
    assert steps == [2, 4, 6]


def test_measuring_held_out_texts_changes_nothing_that_is_learnt(load_tiny: Load, tmp_path: Path) -> None:
    states = []
    for name, valid in (("plain", []), ("measured", [(9, "lyrics", "the vocals")])):
        dropout = {"lora": {"r": 4, "alpha": 8, "dropout": 0.3}}
        train(load_tiny(), tmp_path / name, valid=valid, epochs=3, **dropout)
        states.append(torch.random.get_rng_state())
    assert farthest(adapter(tmp_path / "plain"), adapter(tmp_path / "measured")) == 0
    assert torch.equal(*states)


def test_a_callback_stops_a_training(load_tiny: Load, tmp_path: Path) -> None:
    stop = {"_target_": "pytorch_lightning.callbacks.EarlyStopping", "monitor": "predictor/valid/loss"}
    callbacks = {"callbacks": {"stop": {**stop, "min_delta": 100.0, "patience": 1}}}
    facts = train(load_tiny(), tmp_path, trainer=callbacks, valid=TEXTS[:4], epochs=5)
    assert (facts["epochs"], facts["steps"], facts["stopped"]) == (2, 4, "a callback stopped it")
    facts = train(load_tiny(), tmp_path, trainer={"max_steps": 3}, epochs=5)
    assert (facts["steps"], facts["stopped"]) == (3, "max_steps")


def test_arguments_of_the_trainer_are_passed_on(load_tiny: Load, tmp_path: Path) -> None:
    train(load_tiny(), tmp_path / "plain")
    train(load_tiny(), tmp_path / "mixed", trainer={"precision": "bf16-mixed", "log_every_n_steps": 2})
    assert farthest(adapter(tmp_path / "plain"), adapter(tmp_path / "mixed")) > 0
    with pytest.raises(TrainingError, match=r"Lightning refuses these settings: .*profiler"):
        train(load_tiny(), tmp_path / "wrong", trainer={"profiler": "smple"})


def test_what_changes_an_adapter_is_in_its_key() -> None:
    stop = {"callbacks": {"stop": {"_target_": "pytorch_lightning.callbacks.EarlyStopping"}}}
    assert TrainerConfig(valid_rows=8).identity() == TrainerConfig().identity()
    assert TrainerConfig(valid_rows=8, **stop).identity() != TrainerConfig(**stop).identity()
    same = {"devices": "auto", "strategy": "ddp", "benchmark": True, "log_every_n_steps": 5, "precision": "32-true"}
    assert TrainerConfig(**same, micro_batch_tokens=64).identity() == {}
    callbacks = [{"_target_": "pytorch_lightning.callbacks.EarlyStopping", "monitor": "x"}]
    told = {"max_steps": 5, "precision": "bf16-mixed", "callbacks": callbacks}
    assert TrainerConfig(**told).identity() == told


def test_every_argument_of_the_trainer_is_a_setting_or_refused() -> None:
    import inspect

    import pytorch_lightning as pl

    names = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
    assert names == set(trainer_arguments()) <= set(TrainerConfig.model_fields)
    assert set(TAKEN) <= names
