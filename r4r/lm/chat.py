"""Prompts and responses as token ids, exactly as the base model's chat template spells them."""

from pathlib import Path
from typing import Any

from r4r.errors import ModelError

PROBE = "0probe0"


class Chat:
    """The chat format of one tokenizer.

    Attributes:
        end_ids: tokens that end an assistant turn; the first is trained on, all of them stop generation.
    """

    def __init__(self, tokenizer: Any, system: str | None, extra_end_ids: tuple[int, ...] = ()):
        if not getattr(tokenizer, "chat_template", None):
            raise ModelError(
                "the base model's tokenizer has no chat template; take an instruction-tuned model, or put a "
                "chat_template.jinja into the model's folder"
            )
        self.tokenizer = tokenizer
        self.system = system
        self.end_ids = (self._end_of_turn(), *extra_end_ids)

    @classmethod
    def load(cls, folder: Path, system: str | None) -> "Chat":
        """The chat format of the model in a folder, whose weights are not read.

        Raises:
            ModelError: the folder holds no chat model.
        """
        from transformers import AutoConfig, AutoTokenizer, GenerationConfig

        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
            if (folder / "generation_config.json").exists():
                settings = GenerationConfig.from_pretrained(folder)
            else:
                settings = GenerationConfig.from_model_config(AutoConfig.from_pretrained(folder))
        except (OSError, ValueError) as error:
            raise ModelError(f"{folder} holds no language model: {str(error).splitlines()[0]}") from error
        return cls(tokenizer, system, end_ids(settings))

    def _messages(self, prompt: str) -> list[dict[str, str]]:
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*system, {"role": "user", "content": prompt}]

    def _end_of_turn(self) -> int:
        messages = [*self._messages("x"), {"role": "assistant", "content": PROBE}]
        text = self.tokenizer.apply_chat_template(messages, tokenize=False)
        tail = self.tokenizer(text[text.rindex(PROBE) + len(PROBE) :], add_special_tokens=False)["input_ids"]
        if not tail:
            raise ModelError("the chat template ends an assistant turn with nothing, so generation could never stop")
        return int(tail[0])

    def prompt_ids(self, prompt: str) -> list[int]:
        """The user turn up to where the assistant's reply begins. The template writes BOS, so none is added here."""
        text = self.tokenizer.apply_chat_template(self._messages(prompt), tokenize=False, add_generation_prompt=True)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def reply_ids(self, text: str, end: bool = True) -> list[int]:
        """An assistant's reply, with the end of the turn where `end`."""
        ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return [*ids, self.end_ids[0]] if end else ids

    def text(self, ids: list[int]) -> str:
        """Generated ids as text, up to the end of the turn."""
        kept = []
        for token in ids:
            if token in self.end_ids:
                break
            kept.append(token)
        return self.tokenizer.decode(kept, skip_special_tokens=True).strip()

    def clip(self, text: str, max_tokens: int) -> str:
        """The text's first `max_tokens` tokens; the text itself where it is no longer than that."""
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = encoded["offset_mapping"]
        if len(offsets) <= max_tokens:
            return text
        for kept in range(max_tokens, 0, -1):  # a cut inside of a character of several tokens keeps all of them
            clipped = text[: offsets[kept - 1][1]]
            if len(self.reply_ids(clipped, end=False)) <= max_tokens:
                return clipped
        return ""


def end_ids(settings: Any) -> tuple[int, ...]:
    """The tokens that a model's generation settings end with."""
    ends = settings.eos_token_id
    return tuple(ends) if isinstance(ends, list) else (() if ends is None else (ends,))
