"""A training that was killed ends as an unbroken one, and its checkpoint holds what that takes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from trained import Killed, Load, adapter, farthest, train

from r4r.training import module
from r4r.training.fit import CHECKPOINT


@pytest.mark.parametrize("killed_at", [1, 2, 3, 6])
def test_a_killed_training_ends_as_an_unbroken_one(load_tiny: Load, tmp_path: Path, killed_at: int) -> None:
    settings: dict[str, Any] = {"epochs": 3, "lora": {"r": 4, "alpha": 8, "dropout": 0.2}}
    train(load_tiny(), tmp_path / "unbroken", **settings)

    def kill(metrics: dict[str, float]) -> None:
        if metrics["predictor/train/step"] == killed_at:
            raise Killed

    with pytest.raises(Killed):
        train(load_tiny(), tmp_path / "broken", kill, every_s=0, **settings)
    assert not (tmp_path / "broken" / "adapter").exists()
    steps: list[float] = []
    facts = train(
        load_tiny(), tmp_path / "broken", lambda m: steps.append(m["predictor/train/step"]), every_s=0, **settings
    )
    kept = min(killed_at, 5)  # the last step's checkpoint is the adapter
    assert steps == list(range(kept + 1, 7))
    assert facts["resumed_at_step"] == kept
    assert farthest(adapter(tmp_path / "unbroken"), adapter(tmp_path / "broken")) == 0
    assert not (tmp_path / "broken" / CHECKPOINT).exists()


def test_a_checkpoint_holds_the_adapter_and_not_the_base(load_tiny: Load, tmp_path: Path) -> None:
    def kill(metrics: dict[str, float]) -> None:
        if metrics["predictor/train/step"] == 2:
            raise Killed

    with pytest.raises(Killed):
        train(load_tiny(), tmp_path, kill, every_s=0)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    train(load_tiny(), tmp_path)
    assert sum(w.numel() for w in state["state_dict"].values()) == sum(w.numel() for w in adapter(tmp_path).values())


def test_the_seed_decides_the_adapter(load_tiny: Load, tmp_path: Path) -> None:
    lm = load_tiny()
    train(lm, tmp_path / "one")
    torch.manual_seed(99)
    train(lm, tmp_path / "two")
    assert farthest(adapter(tmp_path / "one"), adapter(tmp_path / "two")) == 0


class Paged(torch.optim.AdamW):
    """Marks its states as paged memory, as bitsandbytes does; where one marked is not of its making, it would exit."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.own: set[int] = set()

    def step(self, closure: Any = None) -> Any:
        for state in self.state.values():
            for value in state.values():
                assert id(value) in self.own or not hasattr(value, "is_paged"), "the process ends here"
        done = super().step(closure)
        for state in self.state.values():
            for value in state.values():
                value.is_paged = True
                self.own.add(id(value))
        return done


def test_paged_states_are_resumed_as_ordinary_ones(
    load_tiny: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(metrics: dict[str, float]) -> None:
        if metrics["predictor/train/step"] == 2:
            raise Killed

    train(load_tiny(), tmp_path / "unbroken")
    monkeypatch.setattr(
        module,
        "make_optimizer",
        lambda name, weights, lr, on_gpu, mixed: Paged(weights, lr=lr, weight_decay=0.0),
    )
    with pytest.raises(Killed):
        train(load_tiny(), tmp_path / "paged", kill, every_s=0)
    assert train(load_tiny(), tmp_path / "paged")["resumed_at_step"] == 2
    assert farthest(adapter(tmp_path / "unbroken"), adapter(tmp_path / "paged")) == 0
