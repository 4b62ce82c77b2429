"""What the two ways to vLLM share, in this process or behind a server.

vLLM makes its own batches and keeps the prompts' common beginnings itself (prefix caching): each row of a unit is a
request, all in flight together. A rating is one token out of those that the scale's values go on with, and the
log-probabilities of just these: their softmax is that of the tokens' logits, whatever else the vocabulary holds. Where
the values part further on, each such point is a request of its own.
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

from r4r.configuration.schema import LLMConfig
from r4r.errors import ModelError
from r4r.files import fingerprint
from r4r.lm.chat import Chat
from r4r.lm.engine import Shared
from r4r.lm.rating_tokens import rating_tokens
from r4r.scale import PAPER, Scale

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM takes for the highest rank of an adapter
MOST_LOGPROBS = 20  # that a request may ask for, with vLLM's defaults
ROOM = 32  # tokens beyond llm.max_length: an answer that was cut is read once more, with the rating's prefix behind it
# nothing of the model's own generation settings: the end of a turn is what r4r says, as with hf
PLAIN = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "ignore_eos": True}
Request = tuple[list[int], dict[str, Any]]  # token ids, and what they are sampled by (vLLM's names)
Answer = tuple[list[int], dict[int, float]]  # new tokens, and log-probabilities of the tokens that were asked for


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
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config(decoder=True)
        wanted = spec.max_length + ROOM
        self.max_length = min(wanted, getattr(config, "max_position_embeddings", wanted))
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

    @property
    def prefix_bytes(self) -> int:
        """As `Engine.prefix_bytes`: vLLM holds what prompts share by itself."""
        return 0

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
        seeds: Sequence[int] = (),
    ) -> list[list[int]]:
        ends = list(self.chat.end_ids)
        common = {"max_tokens": max_new_tokens, "temperature": temperature, "stop_token_ids": ends}
        requests = [
            (list(row), common | ({"seed": seeds[n]} if temperature > 0 else {})) for n, row in enumerate(prompts)
        ]
        return [ids for ids, _ in self._all(requests, adapter)]

    def rate(self, encoded: Sequence[Sequence[int]], adapter: str | None, scale: Scale = PAPER) -> Tensor:
        spelled = rating_tokens(self.chat, scale=scale)
        asked = [
            (branch.path, list(branch.tokens[start : start + MOST_LOGPROBS]))
            for branch in spelled.branches
            for start in range(0, len(branch.tokens), MOST_LOGPROBS)
        ]
        requests = [
            ([*row, *path], {"max_tokens": 1, "temperature": 0.0, "allowed_token_ids": some, "logprob_token_ids": some})
            for row in encoded
            for path, some in asked
        ]
        found = [logprobs for _, logprobs in self._all(requests, adapter)]
        known: list[dict[tuple[int, ...], dict[int, float]]] = [{} for _ in encoded]  # of each row: path -> log-probs
        for number, logprobs in enumerate(found):
            known[number // len(asked)].setdefault(asked[number % len(asked)][0], {}).update(logprobs)
        return spelled.probabilities(
            [
                torch.tensor([[row[branch.path][token] for token in branch.tokens] for row in known])
                for branch in spelled.branches
            ]
        )

    def share(self, prompts: Sequence[Sequence[int]], keep: Sequence[int], adapter: str | None) -> Shared:
        return _Whole(self, adapter)

    @abstractmethod
    def rest(self) -> None:
        """As `Engine.rest`."""

    def close(self) -> None:
        self._runner.close()

    def _all(self, requests: Sequence[Request], adapter: str | None) -> list[Answer]:
        handle = None if adapter is None else self._handles[adapter]

        async def together() -> list[Answer]:
            asyncio.get_running_loop().set_exception_handler(_tell_errors)
            return await asyncio.gather(*(self._ask(ids, handle, PLAIN | settings) for ids, settings in requests))

        return self._runner.run(together())


def _tell_errors(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Of a stop, whoever caught it says what there is to say; asyncio would print where each task was."""
    if not isinstance(context.get("exception"), KeyboardInterrupt):
        loop.default_exception_handler(context)


class _Whole:
    """Every prompt is sent whole: vLLM itself remembers what prompts share."""

    nbytes = 0

    def __init__(self, engine: VLLM, adapter: str | None):
        self._engine, self._adapter = engine, adapter

    def rate(self, pairs: Sequence[int], prompts: Sequence[Sequence[int]], scale: Scale = PAPER) -> Tensor:
        prefix = rating_tokens(self._engine.chat, scale=scale).prefix
        return self._engine.rate([[*prompt, *prefix] for prompt in prompts], self._adapter, scale)
