"""A chat completion, however it came: an answer, or the typed reason why it is none."""

from collections.abc import Mapping
from typing import Any

from r4r.config import PriceConfig
from r4r.errors import AnswerCut, AnswerEmpty, AnswerRefused, TeacherError
from r4r.teacher.base import Answer, Call
from r4r.teacher.price import dollars, tokens_about


def read_reply(body: Mapping[str, Any], call: Call, price: PriceConfig | None) -> Answer | TeacherError:
    """The outcome of a completed call. Where a server reports no usage, tokens are counted at 4 characters each.

    Raises:
        ValueError: this is no chat completion.
    """
    try:
        choice = body["choices"][0]
        message = choice["message"]
        text, refusal, reason = message.get("content"), message.get("refusal"), choice.get("finish_reason")
        usage = body.get("usage") or {}
        tokens_in, tokens_out = usage.get("prompt_tokens"), usage.get("completion_tokens")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"no chat completion: {type(error).__name__}") from None
    if text is not None and not isinstance(text, str):
        raise ValueError("no chat completion: content is not text")
    tokens_in = tokens_about(call.prompt) if tokens_in is None else int(tokens_in)
    tokens_out = tokens_about(text or "") if tokens_out is None else int(tokens_out)
    paid = dollars(price, tokens_in, tokens_out)
    failure: TeacherError
    if refusal or reason == "content_filter":
        failure = AnswerRefused("refused" if refusal else "refused (content_filter)")
    elif reason == "length":
        failure = AnswerCut(f"cut off at {call.max_tokens} tokens")
    elif not (text or "").strip():
        failure = AnswerEmpty("came back empty")
    else:
        whole = (text or "").encode("utf-8", "replace").decode()  # half a surrogate pair is no text
        return Answer(whole, tokens_in, tokens_out, paid)
    failure.tokens_in, failure.tokens_out, failure.dollars = tokens_in, tokens_out, paid
    return failure
