"""Decoding on any rating scale: a value is rated by its whole string, and no more is read than where strings part."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_rating import HISTORY, PROMPTS, chat_of

from r4r.lm.base import LanguageModel
from r4r.lm.rate import SharedPrefix, decode, rate
from r4r.lm.rating_tokens import RatingTokens, rating_text, rating_tokens
from r4r.scale import PAPER, Scale

Logits = Callable[[tuple[int, ...]], torch.Tensor]  # of the whole vocabulary, behind these tokens of a value

SCALES = [
    Scale(lowest=1, highest=5, step=0.5),
    Scale(lowest=0.5, highest=5, step=0.5),
    Scale(lowest=1, highest=10),
    Scale(lowest=0, highest=100, step=5),
    Scale(lowest=-2, highest=2, step=0.25),
]
any_scale = st.builds(
    lambda lowest, steps, step: Scale(lowest=lowest, highest=round(lowest + steps * step, 6), step=step),
    st.sampled_from([-10, -1, 0, 0.5, 1, 90]),
    st.integers(1, 30),
    st.sampled_from([0.1, 0.25, 0.5, 1, 2, 10]),
)


def among_the_strings(spelled: RatingTokens, logits: Logits) -> torch.Tensor:
    """The likelihood of each value's whole string where only the scale's strings can be said, one value at a time."""
    likelihoods = []
    for tail in spelled.tails:
        total = 0.0
        for step, token in enumerate(tail):
            ways = sorted({o[step] for o in spelled.tails if o[:step] == tail[:step] and len(o) > step})
            total += float(logits(tail[:step])[ways].log_softmax(-1)[ways.index(token)])
        likelihoods.append(total)
    return torch.tensor(likelihoods).exp()


@given(scale=any_scale, merges=st.sets(st.sampled_from([("Ġ", "1"), ("1", "0"), (".", "5"), ("5", "."), ("-", "1")])))
def test_a_scales_strings_are_told_apart_by_any_tokenizer(scale: Scale, merges: set[tuple[str, str]]) -> None:
    chat = chat_of(sorted(merges))
    spelled = rating_tokens(chat, scale=scale)
    for value, tail in zip(scale.values, spelled.tails, strict=True):
        assert chat.tokenizer.decode([*spelled.prefix, *tail]) == rating_text(value, scale)
    random = torch.Generator().manual_seed(0)
    table: dict[tuple[int, ...], torch.Tensor] = {}

    def logits(path: tuple[int, ...]) -> torch.Tensor:
        return table.setdefault(path, torch.randn(300, generator=random) * 3)

    found = spelled.probabilities([logits(b.path)[None, list(b.tokens)] for b in spelled.branches])[0]
    expected = among_the_strings(spelled, logits)
    assert float(expected.sum()) == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_a_value_of_several_tokens_is_rated_by_its_whole_string(tiny: LanguageModel, scale: Scale) -> None:
    prompts = [tiny.chat.prompt_ids(text) for text in PROMPTS[1:]]
    spelled = rating_tokens(tiny.chat, scale=scale)
    assert len(spelled.branches) > 1

    def behind(prompt: list[int]) -> Logits:
        def logits(path: tuple[int, ...]) -> torch.Tensor:
            with torch.no_grad():
                return tiny.causal(torch.tensor([[*prompt, *spelled.prefix, *path]])).logits[0, -1]

        return logits

    expected = torch.stack([among_the_strings(spelled, behind(prompt)) for prompt in prompts])
    found = rate(tiny, prompts, scale)
    assert found.shape == (len(prompts), len(scale.values))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    shared = SharedPrefix(tiny, prompts, [max(1, len(p) - 6) for p in prompts])
    for _ in range(2):  # again from the same cache
        again = shared.rate([1, 0, 2], [prompts[n] for n in (1, 0, 2)], scale)
        torch.testing.assert_close(again, expected[[1, 0, 2]], rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [PAPER, *SCALES], ids=str)
def test_no_more_is_read_than_the_points_where_values_part(
    tiny: LanguageModel, scale: Scale, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    hidden = tiny.hidden

    def counted(**inputs: Any) -> Any:
        read.append(inputs["input_ids"].shape[1])
        return hidden(**inputs)

    monkeypatch.setattr(tiny, "hidden", counted)
    prompt = tiny.chat.prompt_ids(HISTORY)
    rate(tiny, [prompt], scale)
    assert len(read) == len(rating_tokens(tiny.chat, scale=scale).branches)
    assert read[0] > len(prompt)
    assert all(length <= 4 for length in read[1:]), "the prompt is read once"
    if scale == PAPER:
        assert len(read) == 1


@pytest.mark.parametrize(
    "merges",
    [[(digit, ".") for digit in "12345"], [("Ġ", "5")], [("5", ".")]],
    ids=["digit and point are one token", "one digit takes the space", "one digit takes the point"],
)
def test_a_tokenizer_that_merges_a_rating_with_its_surroundings_is_read_off(merges: list[tuple[str, str]]) -> None:
    chat = chat_of(merges)
    spelled = rating_tokens(chat)
    said = [chat.tokenizer.decode([*spelled.prefix, *tail]) for tail in spelled.tails]
    assert said == [rating_text(value) for value in PAPER.values]


def test_a_scale_is_decoded_in_its_own_points() -> None:
    scale = Scale(lowest=1, highest=10)
    assert decode(torch.full((1, 10), 0.1), scale)["mean"].tolist() == pytest.approx([5.5])
    certain = decode(torch.eye(10)[[6]], scale)
    assert {name: value.tolist() for name, value in certain.items()} == {"mean": [7], "median": [7], "mode": [7]}


def test_a_rating_text_is_the_scales_own() -> None:
    assert rating_text(4) == "Predicted Rating: 4.0"
    assert rating_text(3.5, SCALES[0]) == "Predicted Rating: 3.5"
    assert rating_text(10, SCALES[2]) == "Predicted Rating: 10.0"
