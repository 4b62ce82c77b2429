"""Supervised fine-tuning: the likelihood of the response, given the prompt (paper 3.2 to 3.4, SPEC 2 and 8)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor

from r4r.errors import TrainingError
from r4r.lm.base import LanguageModel
from r4r.lm.loss import Example, response_loss
from r4r.training.objectives.base import Objective, encode

RATING = "Predicted Rating:"


class SFT(Objective):
    """Mean cross-entropy over the response tokens of a step, the end of the turn among them."""

    def __init__(self, loss_on: Literal["response", "digit"] = "response"):
        """
        Args:
            loss_on: response tokens that are learnt: all of them (the paper), or those of the rating alone, for
                experts whose response is nothing else, or ends with one.
        """
        self.loss_on = loss_on

    def encode(self, lm: LanguageModel, texts: Sequence[tuple[int, str, str]]) -> list[Any]:
        examples: list[Any] = encode(lm, texts)
        if self.loss_on == "response":
            return examples
        return [
            replace(example, learnt=rating_places(lm, row_id, response))
            for example, (row_id, _, response) in zip(examples, texts, strict=True)
        ]

    def weight(self, example: Example) -> float:
        return float(len(example.places))

    def loss(self, lm: LanguageModel, examples: Sequence[Example]) -> Tensor:
        return response_loss(lm, examples)


def rating_places(lm: LanguageModel, row_id: int, response: str) -> tuple[int, ...]:
    """Which of a response's tokens spell the rating behind the last `Predicted Rating:`.

    Raises:
        TrainingError: the response states no rating, or the tokenizer does not tell where a token lies.
    """
    head, found, rating = response.rpartition(RATING)
    if not found or not rating.strip():
        raise TrainingError(
            f"row {row_id}: objective.loss_on=digit learns the rating alone, but the response states none behind "
            f"'{RATING}'; take objective.loss_on=response for this expert"
        )
    start = len(head) + len(found) + len(rating) - len(rating.lstrip())
    end = len(response.rstrip())
    encoded = lm.chat.tokenizer(response, add_special_tokens=False, return_offsets_mapping=True)
    if list(encoded["input_ids"]) != lm.chat.reply_ids(response, end=False):
        raise TrainingError(f"{lm.spec.name}: the tokenizer does not tell where the tokens of '{response}' lie")
    return tuple(n for n, (left, right) in enumerate(encoded["offset_mapping"]) if left < end and right > start)
