"""vLLM started by this process: `data_parallel` copies of the base model, over `tensor_parallel` GPUs each."""

import asyncio
import itertools
import os
from pathlib import Path
from typing import Any

import torch

from r4r.configuration.schema import LLMConfig
from r4r.errors import ModelError
from r4r.interrupts import unswallowed
from r4r.lm.architecture import skeleton
from r4r.lm.device import device_name, pick_device, pick_dtype
from r4r.lm.memory import memory_share, release, shape_of
from r4r.lm.vllm_base import VLLM, Answer
from r4r.progress import say

ENVIRONMENT = {  # of vLLM, where the user has not set it
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",  # else vLLM tells its makers what it is used for
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork of a process that has trained may hang
}


class InProcess(VLLM):
    """Starts at the first row that it is to write or rate."""

    def __init__(self, spec: LLMConfig, folder: Path, rank: int):
        """
        Raises:
            ModelError: vLLM is not installed.
        """
        super().__init__(spec, folder, rank)
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            import vllm
        except ImportError as error:
            raise ModelError(
                f"llm.engine=vllm needs vLLM, which cannot be imported ({error}): pip install 'r4r[vllm]', or set "
                "llm.vllm.base_url to the address of a server, or llm.engine=hf"
            ) from error
        self._vllm: Any = vllm
        self._numbers = itertools.count(1)  # of adapters and requests
        self._device = pick_device("auto")
        self._dtype = str(pick_dtype(spec.dtype, self._device)).removeprefix("torch.")
        self._started: Any = None
        self._asleep = False
        self._one_at_a_time = asyncio.Lock()

    @property
    def about(self) -> dict[str, Any]:
        own = self.spec.vllm
        sizes = {"tensor_parallel": own.tensor_parallel, "data_parallel": own.data_parallel}
        return {"name": "vllm", "version": self._vllm.__version__, **sizes}

    @property
    def setup(self) -> dict[str, Any]:
        return {
            "device": device_name(self._device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "dtype": self._dtype,
            "engine": self.about,
        }

    def rest(self) -> None:
        """Let vLLM put its weights into the host's memory and give up its cache, so that a training has the GPU."""
        if self._started is not None and self._device.type == "cuda" and not self._asleep:
            self._runner.run(self._started.sleep(level=1))
            self._asleep = True

    def close(self) -> None:
        if self._started is not None:
            self._started.shutdown()
            self._started = None
        super().close()

    async def _ready(self) -> Any:
        """The running engine, awake; called inside of the loop that its answers come to."""
        async with self._one_at_a_time:
            if self._asleep:
                release()
                await self._started.wake_up()
                self._asleep = False
            return self._start()

    def _start(self) -> Any:
        if self._started is None:
            spec, own = self.spec, self.spec.vllm
            release()  # what a training left in reserve is vLLM's now
            share = memory_share(spec, self._device, self._beside())
            nf4 = spec.quantization == "nf4"
            say(
                f"load  {spec.name} by vLLM in {self._dtype}, quantization {spec.quantization}, "
                f"llm.vllm.memory_share={share:g}"
            )
            try:
                settings = self._vllm.AsyncEngineArgs(
                    model=str(self.folder),
                    dtype=self._dtype,
                    quantization="bitsandbytes" if nf4 else None,  # quantizes to nf4 as it loads
                    max_model_len=self.max_length,
                    enable_lora=True,
                    max_lora_rank=self.rank,
                    max_loras=2,  # writer and rater take turns where predictions are timed
                    enable_prefix_caching=True,
                    tensor_parallel_size=own.tensor_parallel,
                    data_parallel_size=own.data_parallel,
                    gpu_memory_utilization=share,
                    max_num_seqs=own.max_num_seqs,
                    max_num_batched_tokens=own.max_num_batched_tokens,
                    enable_sleep_mode=self._device.type == "cuda",
                    enforce_eager=own.eager,
                    generation_config="vllm",
                    disable_log_stats=True,
                )
                with unswallowed():
                    self._started = self._vllm.AsyncLLMEngine.from_engine_args(settings)
            except (ValueError, RuntimeError, OSError) as error:
                plugin = "NF4 needs the package vllm-bnb-plugin. " if nf4 else ""
                raise ModelError(
                    f"vLLM could not start {spec.name} ({_first_line(error)}); its own words are above. {plugin}Where "
                    f"memory is short, lower llm.vllm.memory_share (now {share:g}) or llm.max_length"
                ) from error
        return self._started

    def _beside(self) -> int:
        """Bytes of the base model that experts are trained on."""
        size = 4 if self._dtype == "float32" else 2
        return shape_of(skeleton(self.folder)).weights_bytes(self.spec.quantization, size)

    async def _load(self, name: str, folder: Path) -> Any:
        from vllm.lora.request import LoRARequest

        return LoRARequest(name, next(self._numbers), str(folder))

    async def _ask(self, ids: list[int], adapter: Any, settings: dict[str, Any]) -> Answer:
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError

        engine, number = await self._ready(), str(next(self._numbers))
        params = self._vllm.SamplingParams(**settings, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY)
        last: Any = None
        try:
            async for out in engine.generate({"prompt_token_ids": ids}, params, number, lora_request=adapter):
                last = out
        except (EngineDeadError, ValueError) as error:
            raise ModelError(
                f"vLLM broke off ({_first_line(error)}); its own words are above. Finished units are kept; set "
                "llm.engine=hf to go on without it"
            ) from error
        text = last.outputs[0]
        first = text.logprobs[0] if text.logprobs else {}
        return list(text.token_ids), {token: found.logprob for token, found in first.items()}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
