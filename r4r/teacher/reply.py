"""A chat completion, however it came: an answer, or the typed reason why it is none."""

import math
from collections.abc import Mapping
from typing import Any

from r4r.configuration.teachers import PriceConfig
from r4r.errors import AnswerBroken, AnswerCut, AnswerRefused, TeacherError
from r4r.teacher.base import Answer, Call
from r4r.teacher.final import final_text
from r4r.teacher.price import CHAT_OVERHEAD, dollars, tokens_about
from r4r.teacher.said import reported, visible

# whatever a server calls it; with any other finish_reason the answer did not come to its end by itself
ENDED = (None, "stop", "eos_token", "stop_sequence", "end_turn")
AT_THE_LIMIT = {"length", "max_tokens", "model_length", "max_output_tokens", "max_length", "max_new_tokens"}
BY_A_FILTER = {"content_filter", "safety", "recitation", "refusal", "prohibited_content", "blocklist", "moderation"}
TEXT_PARTS = (None, "text", "output_text")
HIDDEN_PARTS = ("thinking", "reasoning", "redacted_thinking", "reasoning_text", "summary_text")
UNSEEN_TOKENS = 100_000  # that a server may add to a prompt, or to an answer by thinking, beyond what we sent or asked


def read_reply(body: Any, call: Call, price: PriceConfig | None) -> Answer | TeacherError:
    """The outcome of a completed call, its text without thinking and control tokens.

    Where a server reports no usage, or one that cannot be, tokens are counted at 4 characters each: what was paid for
    is kept all the same.

    Raises:
        ValueError: this is no chat completion.
    """
    try:
        choice = body["choices"][0]
        message = choice["message"]
        content, refusal, reason = message.get("content"), message.get("refusal"), choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"no chat completion: {type(error).__name__}") from None
    text, refused_part = _text_of(content)
    tokens_in, tokens_out = read_usage(body.get("usage"), call) or (tokens_about(call.prompt), tokens_about(text))
    paid = dollars(price, tokens_in, tokens_out)
    try:
        _check_end(reason, refusal or refused_part, choice, call)
        return Answer(final_text(text), tokens_in, tokens_out, paid)
    except TeacherError as failure:
        failure.tokens_in, failure.tokens_out, failure.dollars = tokens_in, tokens_out, paid
        return failure


def read_usage(usage: Any, call: Call) -> tuple[int, int] | None:
    """Tokens in and out as a server reports them; None where it does not, or reports what cannot be."""
    if not isinstance(usage, Mapping):
        return None
    most = len(call.prompt.encode("utf-8", "replace")) + CHAT_OVERHEAD, call.max_tokens
    counts = []
    for name, limit in zip(("prompt_tokens", "completion_tokens"), most, strict=True):
        count = usage.get(name)
        if isinstance(count, bool) or not isinstance(count, int | float) or not math.isfinite(count):
            return None
        if count != int(count) or not 0 <= count <= limit + UNSEEN_TOKENS:
            return None
        counts.append(int(count))
    return counts[0], counts[1]


def _text_of(content: Any) -> tuple[str, str]:
    """The text of a message's content, a string or a list of parts without those that hold thinking; and a refusal.

    Raises:
        ValueError: it is neither.
    """
    if content is None or isinstance(content, str):
        return content or "", ""
    if not isinstance(content, list):
        raise ValueError("no chat completion: content is neither text nor a list of parts")
    texts, refusal = [], ""
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        inner = part.get("text") if isinstance(part, Mapping) else part
        if kind == "refusal":
            refusal = "refusal"
        elif kind in TEXT_PARTS and isinstance(inner, str):
            texts.append(inner)
        elif kind not in HIDDEN_PARTS:
            raise ValueError(f"no chat completion: content has a part of type {visible(str(kind), 40)}")
    return "".join(texts), refusal


def _check_end(reason: Any, refusal: Any, choice: Mapping[str, Any], call: Call) -> None:
    """
    Raises:
        AnswerRefused, AnswerCut, AnswerBroken: the answer did not come to its own end.
    """
    ended = None if reason is None else str(reason).lower()
    if refusal:
        raise AnswerRefused("refused")
    if ended in ENDED:
        return
    if ended in BY_A_FILTER:
        raise AnswerRefused(f"refused ({visible(ended, 40)})")
    if ended in AT_THE_LIMIT:
        raise AnswerCut(f"cut off at {call.max_tokens} tokens" if ended == "length" else f"cut off ({ended})")
    said = reported({name: value for name, value in choice.items() if name != "message"})[1]  # that is the answer
    why = f": {visible(said)}" if said else ""
    raise AnswerBroken(f"stopped before its end (finish_reason {visible(str(reason), 40)}){why}")
