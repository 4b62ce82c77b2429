"""What an objective says of itself, so that one file and one YAML add another."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from r4r.errors import TrainingError
from r4r.lm.base import LanguageModel
from r4r.lm.loss import Example


class Objective:
    """Which examples an expert takes, and its loss.

    A step's loss is the sum of `loss` over its examples, divided by the sum of their `weight`: whatever it is that the
    loss is a mean of. A step is computed in several passes and by several processes, so neither may look beyond the
    examples that it is given.

    An example is any object whose `len` is the number of tokens that it takes in a pass, and `encode` makes them.

    Attributes:
        starts_from: name of the objective whose adapter of the same expert this one begins with; None: a fresh
            adapter. `fit` is handed its folder as `start`.
        needs: services that `fit` must be handed by these names (`rollouts`: writes texts with the adapter as it is;
            `reward`: scores them). They are in `services` while the expert trains.
    """

    starts_from: ClassVar[str | None] = None
    needs: ClassVar[frozenset[str]] = frozenset()
    services: Mapping[str, Any]

    def encode(self, lm: LanguageModel, texts: Sequence[Any]) -> list[Any]:
        """Training texts as examples.

        Raises:
            TrainingError: naming the row that cannot be learnt.
        """
        raise NotImplementedError

    def gather(self, examples: Sequence[Any]) -> Sequence[Any]:
        """What a step learns from its examples, asked once as each step begins: rollouts join here. As many as given,
        and none longer than its example."""
        return examples

    def weight(self, example: Any) -> float:
        """How much an example counts in the mean that the step's loss is."""
        raise NotImplementedError

    def loss(self, lm: LanguageModel, examples: Sequence[Any]) -> Tensor:
        """Loss summed over the examples: a scalar, float32, with a graph to the adapter's weights."""
        raise NotImplementedError


def encode(lm: LanguageModel, texts: Sequence[tuple[int, str, str]]) -> list[Example]:
    """Training texts as token ids.

    Args:
        texts: (row_id, prompt, response) of each.

    Raises:
        TrainingError: naming the row whose text is longer than llm.max_length.
    """
    examples = []
    for row_id, prompt, response in texts:
        example = Example(tuple(lm.chat.prompt_ids(prompt)), tuple(lm.chat.reply_ids(response)))
        if len(example) > lm.spec.max_length:
            raise TrainingError(
                f"row {row_id}: prompt and response take {len(example)} tokens, over llm.max_length="
                f"{lm.spec.max_length}; lower dataset.history.prompt or dataset.history.review_tokens, or raise that"
            )
        examples.append(example)
    return examples
