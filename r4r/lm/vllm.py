"""vLLM as the engine: what its two ways share, in this process or behind a server.

vLLM makes its own batches and keeps the prompts' common beginnings itself (prefix caching): each row of a unit is a
request, all in flight together. A rating is one token out of the five digits, with the log-probabilities of just these:
their softmax is that of the digits' logits, whatever else the vocabulary holds.
"""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig

from r4r.config import LLMConfig
from r4r.errors import ModelError
from r4r.files import fingerprint
from r4r.lm.chat import Chat
from r4r.lm.engine import Shared
from r4r.lm.fetch import resolve
from r4r.lm.rating_tokens import rating_tokens

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM takes for the highest rank of an adapter
ROOM = 32  # tokens beyond llm.max_length: an answer that was cut is read once more, with the rating's prefix behind it
# nothing of the model's own generation settings: the end of a turn is what r4r says, as with hf
PLAIN = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "ignore_eos": True}
Answer = tuple[list[int], dict[int, float]]  # new tokens, and log-probabilities of the tokens that were asked for


def open_vllm(spec: LLMConfig, ranks: Sequence[int], cache: Path) -> "VLLM":
    """The engine that `llm.vllm` describes; vLLM starts, or is looked for, when it is first needed.

    Args:
        ranks: of the adapters to come.
    """
    from r4r.lm.vllm_inside import InProcess
    from r4r.lm.vllm_server import Served

    kind = InProcess if spec.vllm.base_url is None else Served
    folder = resolve(spec.source, spec.sha256, spec.revision, cache)
    return kind(spec, folder.absolute(), max(ranks, default=RANKS[0]))


class VLLM(ABC):
    """An `r4r.lm.engine.Engine` whose rows are requests, all of a unit in flight together."""

    def __init__(self, spec: LLMConfig, folder: Path, rank: int):
        """
        Args:
            folder: the base model's.
            rank: the highest of the adapters to come.
        """
        self.spec, self.folder = spec, folder
        self.chat = Chat.load(folder, spec.system)
        self.rank = next((known for known in RANKS if known >= rank), rank)
        longest = getattr(AutoConfig.from_pretrained(folder), "max_position_embeddings", spec.max_length + ROOM)
        self.max_length = min(spec.max_length + ROOM, longest)
        self._runner = asyncio.Runner()  # one loop for the whole job: what is started in it goes on in it
        self._handles: dict[str, Any] = {}  # adapter -> what a request names it by

    @property
    @abstractmethod
    def about(self) -> dict[str, Any]:
        """As `Engine.about`."""

    @property
    @abstractmethod
    def setup(self) -> dict[str, Any]:
        """As `Engine.setup`."""

    @abstractmethod
    async def _load(self, name: str, folder: Path) -> Any:
        """Make an adapter known; gives what requests name it by."""

    @abstractmethod
    async def _ask(self, ids: list[int], adapter: Any, settings: dict[str, Any]) -> Answer:
        """One row, sampled by `settings` (vLLM's names); log-probabilities are those at the first new token."""

    def load_adapter(self, name: str, folder: Path) -> None:
        settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        if settings.get("modules_to_save"):
            raise ModelError(
                f"{folder}: vLLM serves LoRA adapters alone, and this one trained {settings['modules_to_save']} too; "
                f"set experts.{name}.train_lm_head=false, or llm.engine=hf"
            )
        weights = fingerprint(folder / "adapter_model.safetensors")  # one name, on any server, means one content
        self._handles[name] = self._runner.run(self._load(f"{name}-{weights}", folder.absolute()))

    def plan(self, lengths: Sequence[int], extra: int = 0) -> list[list[int]]:
        places, size = list(range(len(lengths))), self.spec.vllm.unit_rows
        return [places[start : start + size] for start in range(0, len(places), size)]

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: str | None,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[list[int]]:
        ends = list(self.chat.end_ids)
        settings = {"max_tokens": max_new_tokens, "temperature": temperature, "seed": seed, "stop_token_ids": ends}
        return [ids for ids, _ in self._all(prompts, adapter, settings)]

    def rate(self, encoded: Sequence[Sequence[int]], adapter: str | None) -> Tensor:
        digits = list(rating_tokens(self.chat).digits)
        settings = {"max_tokens": 1, "temperature": 0.0, "allowed_token_ids": digits, "logprob_token_ids": digits}
        found = [logprobs for _, logprobs in self._all(encoded, adapter, settings)]
        return torch.tensor([[logprobs[digit] for digit in digits] for logprobs in found]).softmax(dim=-1)

    def share(self, prompts: Sequence[Sequence[int]], keep: Sequence[int], adapter: str | None) -> Shared:
        return _Whole(self, adapter)

    def close(self) -> None:
        self._runner.close()

    def _all(self, rows: Sequence[Sequence[int]], adapter: str | None, settings: dict[str, Any]) -> list[Answer]:
        handle = None if adapter is None else self._handles[adapter]

        async def together() -> list[Answer]:
            return await asyncio.gather(*(self._ask(list(row), handle, PLAIN | settings) for row in rows))

        return self._runner.run(together())


class _Whole:
    """Every prompt is sent whole: vLLM itself remembers what prompts share."""

    nbytes = 0

    def __init__(self, engine: VLLM, adapter: str | None):
        self._engine, self._adapter = engine, adapter

    def rate(self, pairs: Sequence[int], prompts: Sequence[Sequence[int]]) -> Tensor:
        prefix = rating_tokens(self._engine.chat).prefix
        return self._engine.rate([[*prompt, *prefix] for prompt in prompts], self._adapter)
