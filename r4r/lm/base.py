"""One base model, loaded and quantized once a job, with the experts as named LoRA adapters on it (paper section 1)."""

import ctypes
import os
import platform
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from r4r.config import LLMConfig, TrainerConfig
from r4r.errors import ModelError
from r4r.lm.chat import Chat, end_ids
from r4r.lm.dropout import QuickDropout
from r4r.lm.fetch import resolve
from r4r.progress import say

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # without one of them a CPU emulates bf16, a hundred times slower


class Lora(BaseModel):
    """Shape of an adapter (SPEC section 2)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    r: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)


def pick_device(accelerator: str) -> torch.device:
    """The device that a trainer setting means.

    Raises:
        ModelError: `gpu` on a machine without one.
    """
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise ModelError("trainer.accelerator=gpu, but PyTorch sees no GPU here; take trainer=cpu or trainer=auto")
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto`: bf16 where the hardware computes in it, else float32."""
    if name != "auto":
        return getattr(torch, name)
    if device.type == "cuda":
        return torch.bfloat16
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    return torch.bfloat16 if flags & BF16_FLAGS else torch.float32


def device_name(device: torch.device) -> str:
    """The GPU's name, or the CPU's where the system tells it, else its architecture."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    known = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text() if cpuinfo.exists() else "", re.MULTILINE)
    return known.group(1) if known else f"{platform.machine()} CPU"


class LanguageModel:
    """A causal language model with a chat format and named adapters.

    Attributes:
        causal: the transformers model; adapters are injected into it in place.
        chat: prompts and replies as token ids.
    """

    def __init__(self, causal: Any, tokenizer: Any, spec: LLMConfig):
        self.causal = causal.eval().requires_grad_(False)
        self.spec = spec
        self.chat = Chat(tokenizer, spec.system, end_ids(causal.generation_config))
        self.peft: Any = None
        self._loaded: dict[str, str] = {}
        self._merged: str | None = None
        self._weights: list[tuple[Any, Tensor]] = []  # the base model's own, while an adapter is merged

    @classmethod
    def load(cls, spec: LLMConfig, trainer: TrainerConfig, cache: Path) -> "LanguageModel":
        """Fetch and load the base model.

        Raises:
            ModelError: it cannot be had, does not fit, or is no chat model.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        transformers_logging.set_verbosity_error()
        warnings.filterwarnings("ignore", message=r"`\w*gradient_checkpointing\w*` is deprecated")  # peft still asks
        if trainer.threads:
            torch.set_num_threads(trainer.threads)
        device = pick_device(trainer.accelerator)
        if device.type == "cpu":
            keep_freed_memory()
        dtype = pick_dtype(spec.dtype, device)
        folder = resolve(spec.source, spec.sha256, spec.revision, cache)
        type_name = str(dtype).removeprefix("torch.")
        say(f"load  {spec.name} on {device.type} in {type_name}, quantization {spec.quantization}")
        options: dict[str, Any] = {"dtype": dtype, "attn_implementation": "sdpa"}
        if spec.quantization == "nf4":
            options["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
            )
            options["device_map"] = {"": device.index or 0 if device.type == "cuda" else "cpu"}
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
            causal: Any = AutoModelForCausalLM.from_pretrained(folder, **options)
        except (OSError, ValueError) as error:
            raise ModelError(f"{spec.source} is not a loadable language model: {str(error).splitlines()[0]}") from error
        if spec.quantization == "nf4":
            keep_differentiable(causal)
        else:
            causal = causal.to(device)
        if spec.gradient_checkpointing:  # in training alone: layers in eval mode keep nothing to begin with
            causal.gradient_checkpointing_enable({"use_reentrant": False})
        return cls(causal, tokenizer, spec)

    @property
    def device(self) -> torch.device:
        return self.causal.device

    @property
    def dtype(self) -> torch.dtype:
        """The type that hidden states are computed in."""
        return self.causal.get_input_embeddings().weight.dtype

    @property
    def can_merge(self) -> bool:
        """Whether an adapter may be added to the weights: where these would round it away, it stays apart."""
        return self.spec.merge_adapters and self.spec.quantization == "none" and self.dtype == torch.float32

    def hidden(self, **inputs: Any) -> Any:
        """The decoder's output (hidden states, cache), without logits."""
        return self.causal.base_model(**inputs)

    def logits(self, hidden: Tensor) -> Tensor:
        """Float32 logits of the given hidden states: [..., hidden] -> [..., vocabulary]."""
        return self.causal.lm_head(hidden).float()

    # adapters

    def new_adapter(self, name: str, lora: Lora, train_head: bool, seed: int) -> list[nn.Parameter]:
        """Add a fresh adapter, make it the active one, and give its trainable parameters.

        Raises:
            ModelError: where the base model has none of the projections that LoRA goes to.
        """
        from peft import LoraConfig

        config = LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=PROJECTIONS,
            modules_to_save=["lm_head"] if train_head else None,
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            self._add(name, config)
        for module in self.peft.modules():
            if name in getattr(module, "lora_dropout", ()) and lora.dropout:
                module.lora_dropout[name] = QuickDropout(lora.dropout)
        self._activate(name)
        parameters = [p for _, p in self._parameters(name)]
        for parameter in parameters:
            parameter.requires_grad_(True)
        return parameters

    def save_adapter(self, name: str, folder: Path) -> None:
        """Write the adapter (and a trained head) in peft's format: safetensors and adapter_config.json."""
        shutil.rmtree(folder, ignore_errors=True)
        temporary = folder.with_name(folder.name + ".tmp")
        self.peft.save_pretrained(temporary, selected_adapters=[name], save_embedding_layers=False)
        inner = temporary / name  # peft puts every adapter but "default" into a folder of its name
        os.replace(inner if inner.exists() else temporary, folder)
        shutil.rmtree(temporary, ignore_errors=True)
        (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card

    def load_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter from disk under a name, once.

        Raises:
            ModelError: where the folder holds no adapter for this base model.
        """
        if self._loaded.get(name) == str(folder):
            return
        self.drop_adapter(name)
        from peft import PeftModel

        options: dict[str, Any] = {"autocast_adapter_dtype": False, "torch_device": str(self.device)}
        try:
            if self.peft is None:
                self.peft = PeftModel.from_pretrained(self.causal, folder, adapter_name=name, **options)
            else:
                self.peft.load_adapter(folder, adapter_name=name, **options)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"{folder} holds no adapter that fits {self.spec.name}: {error}") from error
        self._loaded[name] = str(folder)

    def drop_adapter(self, name: str) -> None:
        """Forget an adapter; no harm where there is none of that name."""
        self._unmerge()
        if self.peft is not None and name in self.peft.peft_config:
            if len(self.peft.peft_config) == 1:  # peft cannot delete the last adapter that has a head of its own
                self.causal, self.peft = self.peft.unload(), None
            else:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # that another adapter is active now, which `using` decides
                    self.peft.delete_adapter(name)
        self._loaded.pop(name, None)

    @contextmanager
    def using(self, name: str | None, merged: bool = False) -> Iterator[None]:
        """Compute with this adapter, or with the bare base model.

        Args:
            merged: where that can be, add the adapter to a copy of the weights, kept until the model is used otherwise.
        """
        wanted = name if merged and self.can_merge else None
        if wanted is None or wanted != self._merged:
            self._unmerge()
            if name is not None:
                self._activate(name)
            if wanted is not None:
                self._merge(wanted)
        if name is None and self.peft is not None:
            with self.peft.disable_adapter():
                yield
        else:
            yield

    def _add(self, name: str, config: Any) -> None:
        from peft import PeftModel

        self._unmerge()
        try:
            if self.peft is None:
                self.peft = PeftModel(self.causal, config, adapter_name=name, autocast_adapter_dtype=False)
            else:
                self.peft.add_adapter(name, config, autocast_adapter_dtype=False)
        except ValueError as error:
            raise ModelError(f"cannot put a LoRA adapter on {self.spec.name}: {error}") from error

    def _merge(self, name: str) -> None:
        for layer in self.causal.modules():
            if name in getattr(layer, "lora_A", ()):
                weight = layer.base_layer.weight
                self._weights.append((layer, weight.data))
                up, down = layer.lora_B[name].weight, layer.lora_A[name].weight
                weight.data = torch.addmm(weight.data, up.data, down.data, alpha=layer.scaling[name])
                layer.merged_adapters.append(name)
        self._merged = name

    def _unmerge(self) -> None:
        """Put the base model's own weights back."""
        for layer, weight in self._weights:
            layer.base_layer.weight.data = weight
            layer.merged_adapters.clear()
        self._merged, self._weights = None, []

    def _activate(self, name: str) -> None:
        self.peft.set_adapter(name)
        self.peft.requires_grad_(False)
        self.causal.eval()

    def _parameters(self, name: str) -> list[tuple[str, nn.Parameter]]:
        parts = (f".{name}.", f".{name}")
        return [(key, p) for key, p in self.peft.named_parameters() if parts[0] in key or key.endswith(parts[1])]


def keep_freed_memory() -> None:
    """Let the C library reuse freed blocks of any size instead of giving them back to the system.

    Activations are a few MB each; returning and re-faulting their pages costs a good part of the training time on CPU.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # glibc; musl has none
            libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD: 32 MiB is the most that glibc takes
            libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def keep_differentiable(model: nn.Module) -> None:
    """Keep 4-bit layers on the kernel that has a gradient.

    On CPUs with AVX512-BF16, bitsandbytes repacks the weights in the first eval-mode forward, after which training
    silently yields zero gradients.
    """
    import bitsandbytes

    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
