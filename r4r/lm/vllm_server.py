"""vLLM behind its OpenAI-compatible server: the way to other machines.

Adapters are loaded by name as they are needed, out of their folders, which the server must see under the same paths.
"""

import os
from pathlib import Path
from typing import Any

import openai

from r4r.configuration.schema import LLMConfig
from r4r.errors import ModelError
from r4r.lm.vllm_base import VLLM, Answer

RUNTIME_LORA = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
CONNECT_S = 10.0


class Served(VLLM):
    """A vLLM server at `llm.vllm.base_url`. That it serves our base model is checked before it is first used."""

    def __init__(self, spec: LLMConfig, folder: Path, rank: int):
        """
        Raises:
            ModelError: the variable that `llm.vllm.key_env` names holds no key.
        """
        super().__init__(spec, folder, rank)
        own = spec.vllm
        self.address = str(own.base_url)
        key = os.environ.get(own.key_env, "").strip() if own.key_env else "no-key-needed"
        if not key:
            raise ModelError(f"llm.vllm.key_env: set the environment variable {own.key_env} to the server's key")
        # no limit for an answer: a unit waits as long as the server takes for what is queued before it
        timeout = openai.Timeout(None, connect=CONNECT_S)
        self._client = openai.AsyncOpenAI(api_key=key, base_url=self.address, timeout=timeout)
        self._base = ""  # our base model's name there
        self._version = "unknown"

    @property
    def about(self) -> dict[str, Any]:
        return {"name": "vllm", "version": self._version, "server": self.address}

    @property
    def setup(self) -> dict[str, Any]:
        return {"device": self.address, "dtype": self.spec.dtype, "engine": self.about}

    def rest(self) -> None:
        """The server's GPUs are its own."""

    def close(self) -> None:
        self._runner.run(self._client.close())
        super().close()

    def command(self) -> str:
        """What starts a server that fits."""
        source, spec = self.spec.source, self.spec
        model = source.removeprefix("hub:") if source.startswith("hub:") else str(self.folder)
        words = [
            f"{RUNTIME_LORA}=True vllm serve {model} --served-model-name {spec.name}",
            f"--enable-lora --max-lora-rank {self.rank} --max-model-len {self.max_length}",
            f"--max-num-seqs {spec.vllm.max_num_seqs} --max-num-batched-tokens {spec.vllm.max_num_batched_tokens}",
            f"--revision {spec.revision}" if spec.revision else "",
            f"--dtype {spec.dtype}" if spec.dtype != "auto" else "",
            "--quantization bitsandbytes" if spec.quantization == "nf4" else "",
        ]
        return " ".join(word for word in words if word)

    async def _load(self, name: str, folder: Path) -> str:
        known = await self._models()
        if name not in known:
            try:
                body = {"lora_name": name, "lora_path": str(folder)}
                await self._client.post("/load_lora_adapter", body=body, cast_to=str)
            except openai.NotFoundError as error:
                if "lora" not in str(error).lower():  # no such address, rather than no such folder
                    raise ModelError(
                        f"{self.address} takes no adapters while it runs; start it with {self.command()}"
                    ) from error
                raise ModelError(
                    f"{self.address} finds no adapter at {folder}: the server must see paths.artifacts under the same "
                    "path, on a disk that both share"
                ) from error
            except openai.OpenAIError as error:
                if "already been loaded" not in str(error):  # by another job, since we looked
                    what = f"could not load the adapter {folder}; if it was not started with {self.command()}, do so"
                    raise self._failed(error, what) from error
        return name

    async def _ask(self, ids: list[int], adapter: str | None, settings: dict[str, Any]) -> Answer:
        if not self._base:
            await self._models()
        more = {**settings, "return_token_ids": True}
        rated = "logprob_token_ids" in settings
        if rated:
            more |= {"logprobs": len(settings["logprob_token_ids"]), "return_tokens_as_token_ids": True}
        try:
            done = await self._client.completions.create(model=adapter or self._base, prompt=ids, extra_body=more)
        except openai.OpenAIError as error:
            raise self._failed(error, "did not answer") from error
        choice: Any = done.choices[0]
        tokens = getattr(choice, "token_ids", None)
        if tokens is None:
            raise ModelError(f"{self.address} gives no token ids: want vLLM 0.32 or newer there")
        found = choice.logprobs.top_logprobs[0] if rated else {}
        logprobs = {int(token.removeprefix("token_id:")): value for token, value in found.items()}
        if not logprobs.keys() >= set(settings.get("logprob_token_ids", ())):
            raise ModelError(f"{self.address} gives no logprobs of single tokens: want vLLM 0.32 or newer there")
        return tokens, logprobs

    async def _models(self) -> set[str]:
        """All names that the server knows; checks that our base model is among them.

        Raises:
            ModelError: nothing answers there, or it serves another base model, or one that is too short.
        """
        try:
            served: list[Any] = (await self._client.models.list()).data
            version = await self._client.get(self.address.removesuffix("/v1") + "/version", cast_to=dict[str, str])
        except openai.OpenAIError as error:
            raise self._failed(error, "is no vLLM server that can be used") from error
        self._version = version.get("version", self._version)
        bases = [model for model in served if not getattr(model, "parent", None)]
        ours = {self.spec.name, str(self.folder), self.spec.source.removeprefix("hub:")}
        fitting = [model for model in bases if {model.id, getattr(model, "root", None)} & ours]
        if not fitting:
            names = ", ".join(f"{model.id} ({getattr(model, 'root', '')})" for model in bases) or "nothing"
            raise ModelError(f"{self.address} serves {names}, not {self.spec.name}; start it with {self.command()}")
        length = getattr(fitting[0], "max_model_len", None) or self.max_length
        if length < self.max_length:
            raise ModelError(
                f"{self.address} takes {length} tokens, and llm.max_length needs {self.max_length}; start it with "
                f"{self.command()}, or lower llm.max_length"
            )
        self._base = fitting[0].id
        return {model.id for model in served}

    def _failed(self, error: openai.OpenAIError, what: str) -> ModelError:
        if isinstance(error, openai.APIConnectionError):
            return ModelError(
                f"{self.address}: nothing answers there (llm.vllm.base_url). Start it with {self.command()}. Finished "
                "units are kept"
            )
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return ModelError(f"{self.address} refuses the key; llm.vllm.key_env names the variable that holds it")
        return ModelError(f"{self.address} {what}: {' '.join(str(error).split())[:300]}")
