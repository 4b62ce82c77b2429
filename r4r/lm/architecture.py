"""What r4r needs of a model's architecture: read off its configuration, before any weight is fetched or loaded."""

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import (
    CacheLayerMixin,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions
from transformers.pytorch_utils import Conv1D

from r4r.configuration.schema import LLMConfig
from r4r.errors import ModelError
from r4r.lm.chat import load_chat
from r4r.lm.fetch import resolve_texts
from r4r.lm.rating_tokens import rating_tokens
from r4r.scale import PAPER, Scale

ARGUMENTS = {"input_ids", "attention_mask", "position_ids", "use_cache"}  # that a decoder must take
MARGIN = 64  # tokens beyond llm.max_length: an answer that was cut is read once more, with the rating behind it
BY_COLUMN = {"gpt_neo"}  # kinds whose attention counts columns of the cache, padding among them
UNREACHED = 0.02  # share of a decoder's weights that may lie outside of its linear layers: routers and the like


def check_model(spec: LLMConfig, cache: Path, scale: Scale = PAPER) -> None:
    """Refuse a base model that could not be used, without its weights: before a teacher is paid.

    Raises:
        ModelError: its files cannot be had, it is no chat model, its architecture is not one that r4r can train and
            read, or its tokenizer cannot spell the scale's ratings.
    """
    causal = skeleton(resolve_texts(spec.source, spec.sha256, spec.revision, cache))
    check_readable(causal, spec)
    lora_targets(causal, spec.name)
    chat = load_chat(spec, cache)
    rating_tokens(chat, scale=scale)
    known = causal.get_input_embeddings().num_embeddings
    unknown = [token for token in (*chat.prompt_ids("x"), *chat.reply_ids("x"), *chat.end_ids) if token >= known]
    if unknown:
        names = ", ".join(map(str, chat.tokenizer.convert_ids_to_tokens(sorted(set(unknown)))))
        raise ModelError(
            f"{spec.name}: its chat template writes {names}, for which the model has no embedding ({known} of them): "
            "its tokenizer is another model's, or had tokens added"
        )


def skeleton(folder: Path) -> Any:
    """The model in a folder without its weights (on torch's meta device).

    Raises:
        ModelError: its configuration describes no causal language model that transformers has the code of.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(f"{folder} is not a loadable language model: {str(error).strip().splitlines()[0]}") from error


def check_readable(causal: Any, spec: LLMConfig) -> None:
    """
    Raises:
        ModelError: the model's decoder or output layer is called in another way than r4r does, it has no attention, or
            it reads fewer tokens than llm.max_length.
    """
    kind = causal.config.model_type
    takes = inspect.signature(causal.base_model.forward).parameters
    lacking = sorted(ARGUMENTS - set(takes))
    if lacking or causal.base_model is causal or causal.get_output_embeddings() is None:
        what = f"takes no {', '.join(lacking)}" if lacking else "is not a decoder with an output layer"
        raise ModelError(f"{spec.name}: r4r cannot use models of the kind '{kind}', whose decoder {what}")
    if not any(isinstance(layer, CacheLayerMixin) for layer in own_cache(causal).layers):
        raise ModelError(f"{spec.name}: r4r cannot use models of the kind '{kind}', which have no attention")
    if kind in BY_COLUMN:
        raise ModelError(f"{spec.name}: r4r cannot use models of the kind '{kind}', whose attention counts padding")
    try:
        weight = causal.get_output_embeddings().weight
        with torch.no_grad():
            head(causal, torch.zeros(1, 1, weight.shape[-1], dtype=weight.dtype, device=weight.device))
    except Exception as error:  # each architecture that goes another way fails in its own way
        raise ModelError(f"{spec.name}: r4r cannot take the logits of models of the kind '{kind}'") from error
    longest = _reads_at_most(text_config(causal)) or spec.max_length
    if spec.max_length > longest:
        raise ModelError(
            f"llm.max_length={spec.max_length}, but {spec.name} reads {longest} tokens at most: lower it to {longest}"
        )


def _reads_at_most(config: Any) -> int | None:
    """Tokens that a model reads alike in whichever batch they come; None: any number.

    Beyond the original length of `longrope` and `dynamic` positions, a text's own depend on the longest of its batch.
    """
    positions = getattr(config, "rope_parameters", None) or {}
    original = positions.get("original_max_position_embeddings") or getattr(
        config, "original_max_position_embeddings", None
    )
    longest = getattr(config, "max_position_embeddings", None)
    return original or longest if positions.get("rope_type") in ("longrope", "dynamic") else longest


def text_config(causal: Any) -> Any:
    """The settings of the part that reads text: all of them, but in models that see or hear too."""
    return causal.config.get_text_config(decoder=True)


def lora_targets(causal: Any, name: str) -> list[str]:
    """The linear layers of the decoder, as peft's `target_modules`: the ends of their names, sorted.

    Raises:
        ModelError: there are none, or much of the decoder's weights lies elsewhere, where LoRA would not reach it.
    """
    if any(hasattr(module, "ssm_state_size") for module in causal.modules()):  # of every Mamba in transformers
        raise ModelError(f"cannot put a LoRA adapter on all of {name}: Mamba's kernels pass it by; take another model")
    decoder, output = causal.get_decoder(), causal.get_output_embeddings()
    linear = {where: m for where, m in causal.named_modules() if isinstance(m, nn.Linear | Conv1D) and m is not output}
    within = {id(module) for module in decoder.modules()}
    chosen = [where for where, module in linear.items() if id(module) in within]
    _refuse_partial(decoder, {id(linear[where]) for where in chosen}, name)
    ends = {where.rpartition(".")[2] for where in chosen}
    others = [where for where, module in causal.named_modules() if where not in chosen and not _holds(module)]
    if any(where.rpartition(".")[2] in ends for where in others):  # the same names in an encoder of images
        return sorted(chosen)
    return sorted(ends)


def _holds(module: nn.Module) -> bool:
    return next(module.children(), None) is not None


def _refuse_partial(decoder: nn.Module, reached: set[int], name: str) -> None:
    """Convolutions of a single channel and embeddings are none of LoRA's business; experts held in one tensor are."""
    total, missed = 0, {}
    for where, module in decoder.named_modules():
        if isinstance(module, nn.Embedding | nn.Conv1d):
            continue
        size = sum(p.numel() for p in module.parameters(recurse=False) if p.ndim > 1)
        total += size
        if size and id(module) not in reached:
            missed[where] = size
    if not reached:
        raise ModelError(f"cannot put a LoRA adapter on {name}: its decoder has no linear layers")
    if sum(missed.values()) > UNREACHED * total:
        largest = max(missed, key=lambda where: missed[where])
        raise ModelError(
            f"cannot put a LoRA adapter on all of {name}: {sum(missed.values()) / total:.0%} of its decoder's weights "
            f"are not in linear layers ({largest}: a mixture of experts, or the like); take a dense model"
        )


def own_cache(causal: Any) -> DynamicCache:
    """A fresh cache of the kind that transformers itself gives this model: windows, recurrent states."""
    return DynamicCache(config=text_config(causal))


def shares_prefixes(causal: Any, max_length: int) -> bool:
    """Whether every layer remembers every token of a prompt, so that prompts may be taken up anywhere in a held one.

    A window that is wider than any prompt forgets nothing.
    """
    return all(
        type(layer) is DynamicLayer
        or (type(layer) is DynamicSlidingWindowLayer and layer.sliding_window >= max_length + MARGIN)
        for layer in own_cache(causal).layers
    )


class States(BaseModelOutputWithPastAndCrossAttentions):
    """A decoder's output that has nothing but its hidden states, whatever more a model asks for (images, experts)."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class GivenStates(nn.Module):
    """Stands in a model's decoder's place, and answers with hidden states that were computed before.

    Whatever else is asked of it is the decoder's: some models keep a factor of their logits there.
    """

    def __init__(self, hidden: torch.Tensor, decoder: nn.Module):
        super().__init__()
        self.hidden = hidden
        self.__dict__["_decoder"] = decoder  # no module of this one, whose parameters would move with it

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_decoder"], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return States(last_hidden_state=self.hidden)


def head(causal: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Logits of given hidden states, [..., hidden] -> [..., vocabulary], by the model's own way from its decoder to its
    logits, whatever it scales or caps there."""
    modules, name = causal._modules, causal.base_model_prefix
    decoder = modules[name]
    modules[name] = GivenStates(hidden.reshape(1, -1, hidden.shape[-1]), decoder)
    try:
        logits = causal(inputs_embeds=hidden.new_empty(0), use_cache=False).logits
    finally:
        modules[name] = decoder
    return logits.reshape(*hidden.shape[:-1], -1)
