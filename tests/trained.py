"""Short trainings of the tiny model, and what came of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from r4r.configuration.schema import TrainerConfig
from r4r.experts.predictor import Predictor
from r4r.lm.base import LanguageModel
from r4r.training.fit import fit

Load = Callable[..., LanguageModel]
PROMPTS = [
    "music",
    "the user would enjoy the melody",
    "title 1: " + "predict the rating. " * 5,
    "lyrics and vocals " * 3,
]
REPLIES = ["Predicted Rating: 5.0", "the vocals", "Predicted Rating: 1.0", "dislike because of the rhythm"]
TEXTS = [(n, PROMPTS[n % 4] + str(n), REPLIES[n % 4]) for n in range(8)]


class Killed(Exception):
    pass


def train(
    lm: LanguageModel,
    folder: Path,
    log: Callable[[dict[str, float]], None] = lambda metrics: None,
    texts: list[tuple[int, str, str]] = TEXTS,
    micro_batch_tokens: int | None = 2048,
    every_s: float = 3600,
    trainer: dict[str, Any] | None = None,
    valid: list[tuple[int, str, str]] | None = None,
    start: Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    chosen: dict[str, Any] = {"lora": {"r": 4, "alpha": 8}, "lr": 1e-3, "epochs": 2, "batch_size": 4, "warmup": 0.1}
    folder.mkdir(exist_ok=True)
    own: dict[str, Any] = {"micro_batch_tokens": micro_batch_tokens, "checkpoint_every_s": every_s}
    config = TrainerConfig(**{"accelerator": "cpu", **own, **(trainer or {})})
    expert = Predictor(**(chosen | settings))
    examples, held_out = (expert.objective.encode(lm, part) for part in (texts, valid or []))
    return fit(expert, lm, "predictor", examples, folder, config, 3, log, held_out, start)


def adapter(folder: Path) -> dict[str, Tensor]:
    (file,) = (folder / "adapter").glob("*.safetensors")
    return load_file(file)


def farthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of any weight."""
    assert one.keys() == other.keys()
    return max(float((one[key] - other[key]).abs().max()) for key in one)


def logits(lm: LanguageModel) -> Tensor:
    with torch.no_grad(), lm.using("predictor"):
        ids = torch.tensor([lm.chat.prompt_ids(PROMPTS[1])], device=lm.device)
        return lm.logits(lm.hidden(input_ids=ids).last_hidden_state)
