"""The answer in what a chat model writes: thinking, control tokens, ends that are none, usage that cannot be."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r4r.configuration.teachers import PriceConfig
from r4r.errors import AnswerBroken, AnswerCut, AnswerEmpty, AnswerRefused, TeacherError
from r4r.teacher.base import Answer, Call
from r4r.teacher.final import final_text
from r4r.teacher.local import LocalTeacher
from r4r.teacher.reply import read_reply

ANSWER = "The user likes warm sound."
DRAFT = "Okay, the rating is 2 or 5.\nDraft: The user hates it."
CALL = Call("Why?", 1.0, 320)
PRICE = PriceConfig(input=1.0, output=2.0, date="today")

THINKING = [
    f"<think>\n{DRAFT}\n</think>\n\n{ANSWER}",
    f"{DRAFT}\n</think>\n\n{ANSWER}",  # the template opened the tag
    f"<think></think>{ANSWER}",
    f"<THINK>{DRAFT}</THINK>{ANSWER}",
    f"<think>{DRAFT}<think>more</think> and more</think>{ANSWER}",
    f"<think>{DRAFT}</think>{DRAFT}<think>no</think>{ANSWER}",
    f"<thinking>{DRAFT}</thinking>\n{ANSWER}",
    f"<thought>{DRAFT}</thought>\n{ANSWER}",
    f"<reasoning>{DRAFT}</reasoning>\n{ANSWER}",
    f"<reasoning>{DRAFT}</reasoning>\n<answer>{ANSWER}</answer>",
    f"Sure. <reflection>{DRAFT}</reflection> {ANSWER}",
    f"< think time='3'>{DRAFT}< / think >{ANSWER}",
    f"<seed:think>{DRAFT}</seed:think>{ANSWER}",
    f"&lt;think&gt;{DRAFT}&lt;/think&gt;{ANSWER}",
    f"◁think▷{DRAFT}◁/think▷{ANSWER}",
    f"[THINK]{DRAFT}[/THINK]{ANSWER}",
    f"<|START_THINKING|>{DRAFT}<|END_THINKING|><|START_RESPONSE|>{ANSWER}<|END_RESPONSE|>",
    f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>{ANSWER}<|return|>",
    f"analysisThe user asks.assistantfinal{ANSWER}",
    f"Here is my thought process: {DRAFT}\nHere is my response: {ANSWER}",
]
CONTROLLED = [
    *(f"{ANSWER}{token}" for token in ("<|end|>", "<|im_end|>", "<|eot_id|>", "</s>", "<end_of_turn>", "[/INST]")),
    *(f"{ANSWER} {token}\n" for token in ("<|endoftext|>", "<eos>", "<|END_OF_TURN_TOKEN|>", "<｜end▁of▁sentence｜>")),
    *(f"{token}{ANSWER}" for token in ("<s>", "<|begin_of_text|>", "<|assistant|>\n", "[/INST] ", "<bos>")),
    f"<|im_start|>assistant\n{ANSWER}<|im_end|>",
    f"<|start_header_id|>assistant<|end_header_id|>\n\n{ANSWER}<|eot_id|>",
    f"<start_of_turn>model\n{ANSWER}<end_of_turn>",
    f"{ANSWER}<|im_end|>\n<|im_start|>user\nAnd now?",  # made up: another turn
    f"{ANSWER}</s><s>[INST] And now? [/INST] Five.",
    f"{ANSWER}<pad><pad><pad>",
]


@pytest.mark.parametrize("written", THINKING + CONTROLLED)
def test_the_answer_alone_is_left(written: str) -> None:
    assert final_text(written) == ANSWER


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        (f"<think>{DRAFT}", AnswerCut),
        (f"{DRAFT}</think>{DRAFT}<think>and then", AnswerCut),
        (f"<reasoning>{ANSWER}</reasoning>", AnswerEmpty),
        (f"<think>{ANSWER}</think>  \n", AnswerEmpty),
        ("<|im_end|>", AnswerEmpty),
        (" \n", AnswerEmpty),
        ("\x1b\x00", AnswerEmpty),
        (f"The user <unk> {ANSWER}", AnswerBroken),
        (f"The [MASK] likes it. {ANSWER}", AnswerBroken),
    ],
)
def test_no_answer_is_a_typed_failure(written: str, kind: type) -> None:
    with pytest.raises(kind):
        final_text(written)


@pytest.mark.parametrize("text", ["I think <3 songs", "a < b > c", "[Intro] is loud", "It thinks. 5 | 6", "x <b>y</b>"])
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert final_text(text) == text


@given(st.text())
def test_what_is_left_is_clean(written: str) -> None:
    try:
        text = final_text(written)
    except TeacherError:
        return
    assert text == text.strip() != ""
    assert final_text(text) == text
    assert text.encode().isascii() or text.isprintable() or "\n" in text or text


def completion(**changes: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": changes.pop("content", ANSWER), **changes.pop("message", {})}
    usage = changes.pop("usage", {"prompt_tokens": 50, "completion_tokens": 20})
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"} | changes], "usage": usage}


@pytest.mark.parametrize("reason", ["stop", "STOP", None])
def test_an_answer_ends_by_itself(reason: str | None) -> None:
    assert read_reply(completion(finish_reason=reason), CALL, PRICE) == Answer(ANSWER, 50, 20, 90 / 1e6)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        *((reason, AnswerCut) for reason in ("length", "max_tokens", "MAX_TOKENS", "model_length")),
        *((reason, AnswerRefused) for reason in ("content_filter", "SAFETY", "refusal")),
        *((reason, AnswerBroken) for reason in ("error", "tool_calls", "function_call", "", "aborted", 7, ["stop"])),
    ],
)
def test_any_other_end_is_no_answer(reason: Any, kind: type) -> None:
    outcome = read_reply(completion(finish_reason=reason), CALL, PRICE)
    assert type(outcome) is kind
    assert (outcome.tokens_in, outcome.tokens_out, outcome.dollars) == (50, 20, 90 / 1e6)


def test_what_a_server_says_of_a_broken_end_is_shown_and_is_safe_to_show() -> None:
    reply = completion(finish_reason="err\x1b[31m", error={"message": "upstream \x1b]0;gone\x07"})
    said = str(read_reply(reply, CALL, PRICE))
    assert r"upstream \x1b]0;gone" in said
    assert said.isprintable()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([{"type": "text", "text": ANSWER}], ANSWER),
        (
            [{"type": "thinking", "thinking": [{"type": "text", "text": DRAFT}]}, {"type": "text", "text": ANSWER}],
            ANSWER,
        ),
        ([{"type": "text", "text": "The user "}, {"type": "text", "text": "likes it."}], "The user likes it."),
        ([{"type": "text", "text": f"<think>{DRAFT}</think>"}, ANSWER], ANSWER),
    ],
)
def test_content_may_be_a_list_of_parts(content: Any, expected: str) -> None:
    outcome = read_reply(completion(content=content), CALL, PRICE)
    assert isinstance(outcome, Answer)
    assert outcome.text == expected


def test_parts_that_are_no_answer() -> None:
    refused = read_reply(completion(content=[{"type": "refusal", "refusal": "no"}]), CALL, PRICE)
    assert type(refused) is AnswerRefused
    assert type(read_reply(completion(content=[]), CALL, PRICE)) is AnswerEmpty
    for content in ([{"type": "image_url", "image_url": "x"}], [7], {"text": "x"}, 7):
        with pytest.raises(ValueError, match="no chat completion"):
            read_reply(completion(content=content), CALL, PRICE)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        "many",
        {},
        {"prompt_tokens": -50, "completion_tokens": 20},
        {"prompt_tokens": 50, "completion_tokens": -1},
        {"prompt_tokens": 10**18, "completion_tokens": 20},
        {"prompt_tokens": 50, "completion_tokens": 10**7},
        {"prompt_tokens": float("nan"), "completion_tokens": float("inf")},
        {"prompt_tokens": "50", "completion_tokens": 20},
        {"prompt_tokens": True, "completion_tokens": 20},
        {"prompt_tokens": 0.5, "completion_tokens": 20},
    ],
)
def test_a_usage_that_cannot_be_is_not_believed_and_the_answer_stays(usage: Any) -> None:
    assert read_reply(completion(usage=usage), CALL, PRICE) == Answer(ANSWER, 1, 7, 15 / 1e6)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["message", "content", "type", "text", "x"]), inner)
    ),
    max_leaves=8,
)


@given(message=JSON, reason=JSON, usage=JSON, body=JSON)
def test_any_json_is_an_outcome_or_no_completion(message: Any, reason: Any, usage: Any, body: Any) -> None:
    for reply in (body, {"choices": [{"message": message, "finish_reason": reason}], "usage": usage}):
        try:
            outcome = read_reply(reply, CALL, PRICE)
        except ValueError:
            continue
        assert outcome.tokens_in >= 0 <= outcome.tokens_out
        json.dumps(outcome.tokens_in)


def test_a_local_model_thinks_too() -> None:
    teacher = LocalTeacher(lambda *asked: [(f"<think>{DRAFT}</think>{ANSWER}", 3, 9, True)], {"kind": "local"}, seed=7)
    assert teacher.ask([Call("Why?", None, 20)]) == [Answer(ANSWER, 3, 9)]
