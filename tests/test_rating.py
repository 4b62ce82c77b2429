"""Logit-weighted decoding: the digit's tokens for any tokenizer, the five probabilities, and what is made of them."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from r4r.errors import ModelError
from r4r.lm.base import LanguageModel
from r4r.lm.chat import Chat
from r4r.lm.rate import SharedPrefix, decode, rate
from r4r.lm.rating_tokens import rating_text, rating_tokens

HISTORY = "The user would enjoy the melody but not the lyrics. " * 8
PROMPTS = [HISTORY + "Analysis: a", HISTORY + "Analysis: the vocals are positive, so 5", HISTORY, "music"]


def chat_of(merges: list[tuple[str, str]], replaced: dict[str, str] | None = None) -> Chat:
    """A character-level tokenizer with these merges (Ġ is a space), after replacing these texts."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(merge) for merge in merges)]
    backend = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, merges))
    if replaced:
        backend.normalizer = normalizers.Sequence([normalizers.Replace(*pair) for pair in replaced.items()])
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] + '<|end|>' }}{% endfor %}"
    return Chat(tokenizer, None)


def spelled(chat: Chat) -> tuple[str, list[str]]:
    """The prefix and the digits as texts."""
    tokens = rating_tokens(chat)
    return chat.tokenizer.decode(list(tokens.prefix)), [chat.tokenizer.decode([digit]) for digit in tokens.digits]


def test_a_target_is_the_papers_string() -> None:
    assert rating_text(4.0) == "Predicted Rating: 4.0"


def test_the_tiny_tokenizer_splits_the_digit_off(tiny: LanguageModel) -> None:
    assert spelled(tiny.chat) == ("Predicted Rating: ", ["1", "2", "3", "4", "5"])


@pytest.mark.parametrize(
    ("merges", "prefix", "digits"),
    [
        ([], "Predicted Rating: ", ["1", "2", "3", "4", "5"]),
        ([("Ġ", digit) for digit in "12345"], "Predicted Rating:", [" 1", " 2", " 3", " 4", " 5"]),
        ([(":", "Ġ")], "Predicted Rating: ", ["1", "2", "3", "4", "5"]),
        ([(".", "0")], "Predicted Rating: ", ["1", "2", "3", "4", "5"]),
    ],
    ids=["split", "space merged to the digit", "space merged to the colon", "end merged"],
)
def test_prefix_and_digits_are_read_off_the_tokenizer(
    merges: list[tuple[str, str]], prefix: str, digits: list[str]
) -> None:
    chat = chat_of(merges)
    assert spelled(chat) == (prefix, digits)
    tokens = rating_tokens(chat)
    for rating, digit in enumerate(tokens.digits, 1):
        target = chat.reply_ids(rating_text(rating), end=False)
        assert tuple(target[: len(tokens.prefix) + 1]) == (*tokens.prefix, digit)


@pytest.mark.parametrize(
    ("merges", "replaced"),
    [
        ([], {"Predicted Rating: 1.0": "1", "Predicted Rating: 2.0": "2", "Predicted Rating: ": ""}),
        ([], {"5.0": "4.0"}),
        ([], {"5.0": "4.0 of 5"}),
    ],
    ids=["no prefix", "two ratings alike", "one rating begins another"],
)
def test_a_tokenizer_that_cannot_be_read_off_is_refused(
    merges: list[tuple[str, str]], replaced: dict[str, str] | None
) -> None:
    with pytest.raises(ModelError, match="this tokenizer"):
        rating_tokens(chat_of(merges, replaced))


def by_hand(lm: LanguageModel, prompt: list[int]) -> torch.Tensor:
    """Probabilities of the five digits, out of all logits of the whole text read at once."""
    tokens = rating_tokens(lm.chat)
    with torch.no_grad():
        logits = lm.causal(torch.tensor([[*prompt, *tokens.prefix]])).logits[0, -1]
    weights = logits[list(tokens.digits)].exp()
    return weights / weights.sum()


def test_probabilities_are_the_softmax_of_the_digits_logits(tiny: LanguageModel) -> None:
    prompts = [tiny.chat.prompt_ids(text) for text in PROMPTS]
    found = rate(tiny, prompts)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.stack([by_hand(tiny, p) for p in prompts]), rtol=0, atol=1e-5)
    assert float((found[0] - found[3]).abs().max()) > 1e-3, "different prompts must be told apart"


def test_a_shared_prefix_changes_nothing(tiny: LanguageModel) -> None:
    pairs = [tiny.chat.prompt_ids(text) for text in (HISTORY + "Analysis: a", "User history of two words. Analysis: a")]
    keep = [len(pairs[0]) - 6, len(pairs[1]) - 6]
    shared = SharedPrefix(tiny, pairs, keep)
    asked: list[tuple[int, list[int]]] = [
        (0, pairs[0]),
        (1, pairs[1]),
        (0, tiny.chat.prompt_ids(HISTORY + "Analysis: the user will enjoy it because of the vocals")),
        (0, tiny.chat.prompt_ids(HISTORY + "departs before what is kept")),
        (1, tiny.chat.prompt_ids("User history of three words. Analysis: a")),
        (1, tiny.chat.prompt_ids("another beginning")),
        (0, pairs[0][: keep[0]]),
        (0, pairs[0][: keep[0] - 9]),
        (1, tiny.chat.tokenizer("no token in common")["input_ids"]),
    ]
    for number in range(1, len(asked) + 1):  # again and again from the same cache, in batches of several sizes
        batch = asked[:number]
        found = shared.rate([pair for pair, _ in batch], [prompt for _, prompt in batch])
        torch.testing.assert_close(found, rate(tiny, [prompt for _, prompt in batch]), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("probabilities", "mean", "median", "mode"),
    [
        ([0, 0, 0, 0, 1.0], 5.0, 5.0, 5.0),
        ([0.2, 0.2, 0.2, 0.2, 0.2], 3.0, 3.0, 1.0),
        ([0.3, 0.1, 0.15, 0.15, 0.3], 3.05, 3.0, 1.0),
        ([0.0, 0.1, 0.1, 0.2, 0.6], 4.3, 5.0, 5.0),
        ([0.05, 0.25, 0.4, 0.25, 0.05], 3.0, 3.0, 3.0),
        ([0.75, 0, 0, 0, 0.25], 2.0, 1.0, 1.0),
    ],
)
def test_mean_median_and_mode(probabilities: list[float], mean: float, median: float, mode: float) -> None:
    found = {name: float(values[0]) for name, values in decode(torch.tensor([probabilities])).items()}
    assert found == pytest.approx({"mean": mean, "median": median, "mode": mode}, abs=1e-6)


@given(st.lists(st.lists(st.floats(-20, 20), min_size=5, max_size=5), min_size=1, max_size=4))
def test_each_decoding_is_best_at_what_it_is_for(logits: list[list[float]]) -> None:
    probabilities = torch.tensor(logits, dtype=torch.float64).softmax(dim=1).float()
    decoded: dict[str, Any] = decode(probabilities)
    grid = torch.arange(1, 6, dtype=torch.float64)
    p = probabilities.double()
    for n in range(len(logits)):
        mean, median, mode = (float(decoded[name][n]) for name in ("mean", "median", "mode"))
        assert 1 - 1e-6 <= mean <= 5 + 1e-6
        absolute = [float((p[n] * (grid - guess).abs()).sum()) for guess in grid]
        assert absolute[int(median) - 1] <= min(absolute) + 1e-6
        squared = [float((p[n] * (grid - guess) ** 2).sum()) for guess in (mean, mean - 0.01, mean + 0.01)]
        assert squared[0] <= min(squared) + 1e-6
        assert float(p[n, int(mode) - 1]) == float(p[n].max())
