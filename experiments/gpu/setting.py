"""At which sizes the proof runs, and what its parts share: models made on the spot, texts, loading, processes."""

import gc
import importlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parent.parent / "bench"
sys.path[:0] = [str(BENCH)]  # workload.py, random_llama.py


@dataclass(frozen=True)
class Setting:
    """Sizes of a proof.

    Attributes:
        work: folder for models and adapters.
        tokenizer: folder of the model whose tokenizer is taken; None: a small one that is made on the spot.
        hidden, head, vocabulary: widths of the models.
        layers: of the model that is checked.
        whole_layers: of the model that is timed.
        history: reviews a side in the prompts that are timed.
        words: about so many in the longest prompts.
        batch: texts of a training step.
        steps: of a training that is timed.
        tokens: new tokens of a text.
        rows: rows a batch at which writing is timed; the last is that of the predictions.
        one_by_one: predictions by the plain loop.
        card_gb: what the memory check allows itself.
        rehearsal: whether this is the CPU's small run.
    """

    work: Path
    tokenizer: Path | None = None
    hidden: int = 4096
    head: int = 128
    vocabulary: int = 128_256
    layers: int = 2
    whole_layers: int = 32
    history: int = 10
    words: int = 1000
    batch: int = 16
    steps: int = 2
    tokens: int = 148
    rows: tuple[int, ...] = (1, 16, 64, 128)
    one_by_one: int = 2
    card_gb: int = 24
    rehearsal: bool = False

    @property
    def small(self) -> Path:
        """The model that is checked: the whole one's widths, few layers."""
        return self.work / f"llama-{self.hidden}-{self.layers}"

    @property
    def whole(self) -> Path:
        return self.work / f"llama-{self.hidden}-{self.whole_layers}"


def rehearsal(work: Path) -> Setting:
    """The same, at sizes that say nothing of speed."""
    return Setting(
        work,
        hidden=64,
        head=16,
        vocabulary=0,
        whole_layers=3,
        history=1,
        words=40,
        batch=2,
        steps=1,
        tokens=4,
        rows=(1, 3),
        one_by_one=1,
        rehearsal=True,
    )


def processes(setting: Setting) -> Any:
    """How processes are started: anew where there is a GPU, whose state outlives no fork; the rehearsal's as copies of
    this one, which has imported everything once."""
    if not setting.rehearsal:
        return multiprocessing.get_context("spawn")
    for name in ("torch", "bitsandbytes", "peft", "workload", "headline", "r4r.run", "r4r.training.fit"):
        importlib.import_module(name)
    return multiprocessing.get_context("fork")


def model(setting: Setting, whole: bool = False) -> Path:
    """The folder of a random model, written when it is first asked for."""
    folder = setting.whole if whole else setting.small
    if not folder.exists():
        from random_llama import write_llama

        tokenizer = setting.tokenizer or setting.work / "tokenizer"
        if not tokenizer.exists():
            from r4r.lm.tiny import build_tiny

            tokenizer.mkdir(parents=True)
            build_tiny(tokenizer)
        layers = setting.whole_layers if whole else setting.layers
        write_llama(folder, tokenizer, layers, setting.hidden, setting.vocabulary, setting.head)
    return folder


def load(setting: Setting, whole: bool = False, **settings: Any) -> Any:
    """A model in NF4, as conf/llm/llama3_8b.yaml has it; takes settings of LLMConfig."""
    from r4r.configuration.schema import LLMConfig
    from r4r.lm.base import LanguageModel

    chosen = {"quantization": "nf4", "max_length": 8192, "gradient_checkpointing": True} | settings
    spec = LLMConfig(name="random", source=f"path:{model(setting, whole)}", **chosen)
    return LanguageModel.load(spec, trainer(), setting.work)


def trainer(**settings: Any) -> Any:
    from r4r.configuration.schema import TrainerConfig

    return TrainerConfig(**{"checkpoint_every_s": 0.0} | settings)


def prompts(lm: Any, words: Sequence[int]) -> list[list[int]]:
    """A prompt of so many words each, no two alike."""
    return [lm.chat.prompt_ids("a review of music " * (count // 4) + str(n)) for n, count in enumerate(words)]


def predictor(**settings: Any) -> Any:
    """The paper's rating expert."""
    from r4r.experts.predictor import Predictor

    chosen = {"lora": {"r": 8, "alpha": 16, "dropout": 0.0}, "lr": 1e-3, "epochs": 1, "batch_size": 4, "warmup": 0.1}
    return Predictor(**chosen | settings)


def train(
    lm: Any,
    expert: Any,
    texts: Sequence[tuple[int, str, str]],
    folder: Path,
    log: Callable[[dict[str, float]], None] = lambda facts: None,
    **settings: Any,
) -> dict[str, Any]:
    """As a job trains an expert: the facts of its manifest; the adapter lies in `folder/adapter`."""
    from r4r.training.fit import fit

    folder.mkdir(parents=True, exist_ok=True)
    examples = expert.objective.encode(lm, list(texts))
    return fit(expert, lm, "predictor", examples, folder, trainer(**settings), 0, log)


def texts(count: int, words: int = 80) -> list[tuple[int, str, str]]:
    """(row_id, prompt, response) of a rating expert's training, of growing length."""
    return [
        (n, "a review of music " * ((words + n) // 4) + str(n), f"Predicted Rating: {n % 5 + 1}.0")
        for n in range(count)
    ]


def gib(device: Any) -> float | None:
    """The most memory in use at once on a GPU since it was last forgotten."""
    import torch

    return round(torch.cuda.max_memory_allocated(device) / 2**30, 2) if device.type == "cuda" else None


def forget(lm: Any) -> None:
    """Free what earlier parts left, and begin to watch the memory anew."""
    import torch

    gc.collect()
    if lm.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(lm.device)


def quietly(path: Path) -> None:
    """Send what this process says to a file."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    out = path.open("a", buffering=1)
    for place in (1, 2):
        os.dup2(out.fileno(), place)
    sys.stdout = sys.stderr = out
