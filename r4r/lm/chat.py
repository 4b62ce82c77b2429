"""Prompts and responses as token ids, exactly as the base model's chat template spells them."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateError

from r4r.configuration.schema import LLMConfig
from r4r.errors import ModelError
from r4r.lm.control_tokens import GuardedTokenizer
from r4r.lm.fetch import resolve_texts

PROBE = "0probe0"
TODAY = datetime(2024, 7, 26)  # for templates that write the date: the same prompt, and so the same key, on every day
DATE_CODES = "aAwdbBmyYHIpMSfjUWcxX"  # of strftime
SETTINGS = {
    "enable_thinking": False,  # Qwen3, SmolLM3: the experts' answers are short, and their format is learnt
    "thinking": False,  # Granite, DeepSeek
}


def load_chat(spec: LLMConfig, cache: Path) -> "Chat":
    """The chat format of a base model, to encode, cut and count texts; its weights are not read, nor downloaded.

    Raises:
        ModelError: the model's files cannot be had, or it is no chat model.
    """
    return Chat.load(resolve_texts(spec.source, spec.sha256, spec.revision, cache), spec.system)


class Chat:
    """The chat format of one tokenizer.

    What users, data, teachers and models say is plain text: only the template's own control tokens are control tokens.

    Attributes:
        end_ids: tokens that end an assistant turn; the first is trained on, all of them stop generation.
    """

    def __init__(self, tokenizer: Any, system: str | None, extra_end_ids: tuple[int, ...] = ()):
        """
        Args:
            system: text of the system message; where the template has no such role, the user's turn begins with it.

        Raises:
            ModelError: the tokenizer has no chat template, or one that cannot be used.
        """
        if not getattr(tokenizer, "chat_template", None):
            raise ModelError(
                "the base model's tokenizer has no chat template; take an instruction-tuned model, or put a "
                "chat_template.jinja into the model's folder"
            )
        self.tokenizer = tokenizer
        self._template = undated(tokenizer.get_chat_template())
        self._tokens = GuardedTokenizer(tokenizer)
        self._system: list[dict[str, str]] = []
        self._opening = ""  # what every user turn begins with
        if system is not None:
            self._take_system(system)
        self._before, self._after = self._around_user()
        padded = self._render(f" \n{PROBE}\n ")
        self._keeps_left = padded.startswith(f"{self._before} \n")
        self._keeps_right = padded.endswith(f"\n {self._after}")
        self.end_ids = (self._end_of_turn(), *extra_end_ids)

    @classmethod
    def load(cls, folder: Path, system: str | None) -> "Chat":
        """The chat format of the model in a folder, whose weights are not read.

        Raises:
            ModelError: the folder holds no chat model.
        """
        from transformers import AutoConfig, AutoTokenizer, GenerationConfig

        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            if (folder / "generation_config.json").exists():
                settings = GenerationConfig.from_pretrained(folder)
            else:
                config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
                settings = GenerationConfig.from_model_config(config)
        except (OSError, ValueError, ImportError) as error:
            raise ModelError(f"{folder} holds no language model: {str(error).strip().splitlines()[0]}") from error
        return cls(tokenizer, system, end_ids(settings))

    def prompt_ids(self, prompt: str) -> list[int]:
        """The user turn up to where the assistant's reply begins. The template writes BOS, so none is added here."""
        text = self._opening + prompt
        text = text if self._keeps_left else text.lstrip()
        text = text if self._keeps_right else text.rstrip()
        return self._tokens.ids(self._before, text, self._after)

    def reply_ids(self, text: str, end: bool = True) -> list[int]:
        """An assistant's reply, with the end of the turn where `end`."""
        ids = self._tokens.plain(text)
        return [*ids, self.end_ids[0]] if end else ids

    def text(self, ids: Sequence[int]) -> str:
        """Generated ids as text, up to the end of the turn."""
        kept = []
        for token in ids:
            if token in self.end_ids:
                break
            if token not in self._tokens.special_ids:
                kept.append(token)
        return self.tokenizer.decode(kept).strip()

    def clip(self, text: str, max_tokens: int) -> str:
        """The text's first `max_tokens` tokens; the text itself where it is no longer than that."""
        offsets = self._tokens.offsets(text)
        if len(offsets) <= max_tokens:
            return text
        for kept in range(max_tokens, 0, -1):  # a cut inside of a character of several tokens keeps all of them
            clipped = text[: offsets[kept - 1][1]]
            if len(self.reply_ids(clipped, end=False)) <= max_tokens:
                return clipped
        return ""

    # the template

    def _render(self, prompt: str, reply: str | None = None) -> str:
        """A conversation: up to where the reply begins, or with the whole of it."""
        messages = [*self._system, {"role": "user", "content": prompt}]
        if reply is not None:
            messages.append({"role": "assistant", "content": reply})
        try:
            return self.tokenizer.apply_chat_template(
                messages,
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=reply is None,
                **SETTINGS,
            )
        except TemplateError as error:
            raise ModelError(f"the base model's chat template cannot be used: {error}") from error

    def _take_system(self, system: str) -> None:
        """Put the system message where the template takes one: templates refuse or drop what they have no role for."""
        self._system = [{"role": "system", "content": system}]
        try:
            kept = system.strip() in self._render(PROBE)
        except ModelError:
            kept = False
        if not kept:
            self._system = []
            self._opening = f"{system}\n\n" if system.strip() else ""

    def _around_user(self) -> tuple[str, str]:
        """What the template writes before and after a user's text.

        Raises:
            ModelError: the text does not stand in it once.
        """
        before, found, after = self._render(PROBE).partition(PROBE)
        if not found or PROBE in after:
            raise ModelError("the base model's chat template does not write a user's message once, as it is")
        return before, after

    def _end_of_turn(self) -> int:
        """The first control token behind a reply: a space or a line break may stand before it.

        Raises:
            ModelError: there is none, so generation could never stop.
        """
        tail = self._render("x", PROBE).rpartition(PROBE)[2]
        marks = [token for token in self._tokens.ids(tail) if token in self._tokens.control_ids]
        if marks:
            return marks[0]
        eos = self.tokenizer.eos_token_id
        if not tail or eos is None:
            raise ModelError("the chat template ends an assistant turn with no token, so generation could never stop")
        return int(eos)  # words alone end the turn (`User:`): what we train ends with the model's own end of text


def undated(template: str) -> str:
    """A chat template whose `strftime_now` gives one day for ever: its own macro of that name stands before it."""
    if "strftime_now" not in template:
        return template
    codes = "".join(f"|replace('%{code}', '{TODAY.strftime('%' + code)}')" for code in DATE_CODES)
    return "{% macro strftime_now(format) %}{{ format|replace('%-', '%')" + codes + " }}{% endmacro %}" + template


def end_ids(settings: Any) -> tuple[int, ...]:
    """The tokens that a model's generation settings end with."""
    ends = settings.eos_token_id
    return tuple(ends) if isinstance(ends, list) else (() if ends is None else (ends,))
