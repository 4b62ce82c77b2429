"""One base model, loaded and quantized once a job, with the experts as named LoRA adapters on it (paper section 1)."""

import inspect
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from r4r.configuration.schema import LLMConfig, TrainerConfig
from r4r.configuration.section import Section
from r4r.errors import ModelError
from r4r.lm.architecture import check_readable, head, lora_targets, shares_prefixes
from r4r.lm.chat import Chat, end_ids
from r4r.lm.device import keep_freed_memory, pick_device, pick_dtype
from r4r.lm.dropout import QuickDropout
from r4r.lm.fetch import identity, readable_as_usual, resolve
from r4r.lm.memory import ADVICE, is_out_of_memory, release
from r4r.loading import load_whole
from r4r.progress import say


class Lora(Section):
    """Shape of an adapter (SPEC section 2)."""

    r: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)


class LanguageModel:
    """A causal language model with a chat format and named adapters.

    Attributes:
        causal: the transformers model; adapters are injected into it in place.
        chat: prompts and replies as token ids.
        shares_prefixes: whether a held beginning of a prompt may be taken up anywhere; see `r4r.lm.architecture`.
        cache_argument: what the decoder's forward calls its cache.
        records_steps: whether a step of writing is recorded and replayed; see `r4r.lm.decoding`.
    """

    def __init__(self, causal: Any, tokenizer: Any, spec: LLMConfig):
        """
        Raises:
            ModelError: an architecture or a chat template that cannot be used.
        """
        check_readable(causal, spec)
        self.causal = causal.eval().requires_grad_(False)
        self.spec = spec
        self.chat = Chat(tokenizer, spec.system, end_ids(causal.generation_config))
        self._targets: list[str] | ModelError
        try:
            self._targets = lora_targets(causal, spec.name)  # now, before peft changes the layers
        except ModelError as error:  # a model that is only read, such as a local teacher, needs no adapter
            self._targets = error
        self.shares_prefixes = shares_prefixes(causal, spec.max_length)
        self.records_steps = spec.cuda_graphs and self.shares_prefixes and causal.device.type == "cuda"
        takes = inspect.signature(causal.base_model.forward).parameters
        self.cache_argument = "cache" if "cache" in takes else "past_key_values"  # transformers renamed it
        self.peft: Any = None
        self._loaded: dict[str, str] = {}
        self._merged: str | None = None
        self._merges = True  # until memory has no room for it
        self._weights: list[tuple[Any, Tensor]] = []  # the base model's own, while an adapter is merged

    @classmethod
    def load(cls, spec: LLMConfig, trainer: TrainerConfig, cache: Path) -> "LanguageModel":
        """Fetch and load the base model.

        Raises:
            ModelError: it cannot be had, does not fit, or is no chat model.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
        from transformers.utils import logging as transformers_logging

        from r4r.lm.attention import share_keys

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
        share_keys()
        # the kernels are transformers' choice: SDPA, but for architectures that it does not fit (Gemma 2)
        options: dict[str, Any] = {"dtype": dtype}
        if spec.quantization == "nf4":
            options["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
            )
        if device.type == "cuda" or spec.quantization == "nf4":  # read right to where it computes
            options["device_map"] = {"": device.index or 0 if device.type == "cuda" else "cpu"}
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            causal: Any = load_whole(AutoModelForCausalLM, folder, spec.source, passed_on=is_out_of_memory, **options)
            causal = causal if spec.quantization == "nf4" else causal.to(device)
        except (OSError, ValueError, ImportError) as error:
            told = str(error).strip().splitlines()[0]
            raise ModelError(f"{spec.source} is not a loadable language model: {told}") from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise ModelError(
                f"memory does not suffice to load {spec.name} on {device.type}: free some of it, set "
                "llm.quantization=nf4, or take a smaller model"
            ) from error
        if spec.quantization == "nf4":
            keep_differentiable(causal)
        if spec.gradient_checkpointing:  # in training alone: layers in eval mode keep nothing to begin with
            causal.gradient_checkpointing_enable({"use_reentrant": False})
        return cls(causal, tokenizer, spec)

    @property
    def targets(self) -> list[str]:
        """The decoder's linear layers, which every adapter is put on (peft's `target_modules`).

        Raises:
            ModelError: LoRA would not reach all of the decoder.
        """
        if isinstance(self._targets, ModelError):
            raise self._targets
        return self._targets

    @property
    def device(self) -> torch.device:
        return self.causal.device

    @property
    def dtype(self) -> torch.dtype:
        """The type that hidden states are computed in."""
        return self.causal.get_input_embeddings().weight.dtype

    @property
    def can_merge(self) -> bool:
        """Whether an adapter may be added to the weights: where these would round it, only if that is asked for."""
        wanted = self.dtype == torch.float32 if self.spec.merge_adapters is None else self.spec.merge_adapters
        return wanted and self._merges and self.spec.quantization == "none"

    def hidden(self, **inputs: Any) -> Any:
        """The decoder's output (hidden states, cache), without logits."""
        return self.causal.base_model(**inputs)

    def logits(self, hidden: Tensor) -> Tensor:
        """Float32 logits of the given hidden states: [..., hidden] -> [..., vocabulary]."""
        return head(self.causal, hidden).float()

    # adapters

    def new_adapter(self, name: str, lora: Lora, train_head: bool, seed: int) -> list[nn.Parameter]:
        """Add a fresh adapter, make it the active one, and give its trainable parameters.

        Raises:
            ModelError: where the base model has none of the projections that LoRA goes to.
        """
        from peft import LoraConfig
        from transformers.pytorch_utils import Conv1D

        config = LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=self.targets,
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in self.causal.modules()),  # GPT-2
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
        self._settle(folder)

    def _settle(self, folder: Path) -> None:
        """Make a saved adapter's settings the same on every run: peft writes sets in any order, and a path of
        this machine.

        The base model is named as in the hub, with its commit, where it comes from there.
        """
        spec = self.spec
        path = folder / "adapter_config.json"
        settings = json.loads(path.read_text(encoding="utf-8"))
        settings |= {"target_modules": self.targets, "base_model_name_or_path": spec.source.removeprefix("hub:")}
        of_hub = spec.source.startswith("hub:")  # elsewhere a revision says nothing, and is in no key
        settings["revision"] = identity(spec.source, spec.sha256, spec.revision)["commit"] if of_hub else None
        path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        readable_as_usual(folder)

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
        except (OSError, ValueError, RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise ModelError(f"memory does not suffice to load the adapter {folder}. {ADVICE}.") from error
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
                self._merge_if_it_fits(wanted)
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

    def _merge_if_it_fits(self, name: str) -> None:
        """Merge an adapter; where memory has no room for a copy of the weights, leave adapters apart from then on."""
        try:
            self._merge(name)
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        self._unmerge()
        release()
        self._merges = False
        say("  memory has no room for merged weights: adapters stay apart, as by llm.merge_adapters=false")

    def _merge(self, name: str) -> None:
        for layer in self.causal.modules():
            if name in getattr(layer, "lora_A", ()):
                weight = layer.base_layer.weight
                self._weights.append((layer, weight.data))
                weight.data = weight.data + layer.get_delta_weight(name)
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


def keep_differentiable(model: nn.Module) -> None:
    """Keep 4-bit layers on the kernel that has a gradient.

    On CPUs with AVX512-BF16, bitsandbytes repacks the weights in the first eval-mode forward, after which training
    silently yields zero gradients.
    """
    import bitsandbytes

    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
