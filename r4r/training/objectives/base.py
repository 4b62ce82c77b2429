"""What an objective says of itself, so that one file and one YAML add another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from r4r.errors import TrainingError
from r4r.lm.base import LanguageModel
from r4r.lm.loss import Example
from r4r.training.meter import Meter

Material = Literal["lessons", "preferences", "prompts", "labels"]


@dataclass(frozen=True)
class Around:
    """What an objective finds around it while its expert trains.

    Attributes:
        adapter: the one that is trained.
        reference: a frozen adapter with the weights that the training began with; None: the bare base model.
        services: what the objective `needs`, by name.
    """

    lm: LanguageModel
    adapter: str
    reference: str | None
    seed: int
    services: Mapping[str, Any]


class Objective:
    """Which examples an expert takes, and its loss.

    A step's loss is the sum of `loss` over what it learns, divided by the step's weight: whatever it is that the loss
    is a mean of. A step is computed in several passes and by several processes, so `loss` may not look beyond the
    examples that it is given.

    An example is any object whose `len` is the number of tokens that it takes in a pass, and `encode` makes them.

    Attributes:
        material: what the stage hands to `encode`: lessons (row_id, prompt, response), preferences (row_id, prompt,
            (chosen, rejected)), prompts (row_id, prompt, tokens that an answer may take), or labels (row_id, prompt,
            Graded): lessons of a last step that reads no reason, with the ratings that the same expert gives with them.
        starts_from: name of the objective whose adapter of the same expert this one begins with; None: a fresh
            adapter. `fit` is handed its folder as `start`.
        needs: services that `fit` must be handed by these names (`reward`: scores answers).
        drops_out: whether the adapter's dropout is on. Objectives that compare likelihoods with a reference's or with
            earlier ones compare the same network.
        lr, epochs, batch_size, warmup: in place of the expert's own settings, which SFT follows; None: the expert's.
        lr_share: of the expert's learning rate, where lr is None.
        repeats: optimizer steps that learn from what was gathered once.
        meter: what the step measures, beside its loss.
        around: set before the first step.
    """

    material: ClassVar[Material] = "lessons"
    starts_from: str | None = None
    needs: ClassVar[frozenset[str]] = frozenset()
    drops_out: ClassVar[bool] = True
    lr: float | None = None
    lr_share: float = 1.0
    epochs: int | None = None
    batch_size: int | None = None
    warmup: float | None = None
    repeats: int = 1
    meter: Meter
    around: Around

    def encode(self, lm: LanguageModel, texts: Sequence[Any]) -> list[Any]:
        """The stage's material as examples.

        Raises:
            TrainingError: naming the row that cannot be learnt.
        """
        raise NotImplementedError

    def begin(self, around: Around) -> None:
        """Called before the first step."""
        self.around, self.meter = around, Meter()

    def sizes(self, example: Any) -> list[int]:
        """Tokens of each thing that an example brings to a step, at most."""
        return [len(example)]

    def gather(self, examples: Sequence[Any], step: int) -> tuple[Sequence[Any], float]:
        """What a step learns from its examples, and their weight; asked once as each step begins.

        Rollouts join here, and what frozen adapters say of the examples. There may be less to learn than `sizes`
        told, and none of it longer; what is left out may still count in the weight.
        """
        return examples, sum(self.weight(example) for example in examples)

    def weight(self, example: Any) -> float:
        """How much an example counts in the mean that the step's loss is."""
        raise NotImplementedError

    def loss(self, lm: LanguageModel, examples: Sequence[Any]) -> Tensor:
        """Loss summed over the examples: a scalar, float32, with a graph to the adapter's weights."""
        raise NotImplementedError

    def watch(self, measured: Mapping[str, float]) -> None:
        """Look at a step as all processes together measured it; they all do so alike.

        Raises:
            TrainingError: to go on would teach nothing.
        """

    def check(self, steps: Sequence[Mapping[str, float]]) -> None:
        """Look back over all steps, as they were measured.

        Raises:
            TrainingError: there was nothing to learn in them.
        """

    def state(self) -> Any:
        """What a checkpoint must hold of the objective, in plain values."""

    def restore(self, state: Any) -> None:
        """Take up what `state` gave."""


class Onward(Objective):
    """An objective that improves on an adapter, with a rate and a length of its own."""

    drops_out: ClassVar[bool] = False

    def __init__(
        self,
        start: Literal["sft", "none"],
        lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None,
        lr_share: Annotated[float, Field(gt=0, allow_inf_nan=False)],
        epochs: Annotated[int, Field(ge=1)] | None,
        batch_size: Annotated[int, Field(ge=1)] | None,
        warmup: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None,
    ):
        """
        Args:
            start: sft: the adapter that SFT trained on the expert's lessons; none: a fresh one. The reference that
                likelihoods are compared with is that adapter, or the bare base model.
            lr, epochs, batch_size, warmup: in place of the expert's, which SFT follows; None: the same.
            lr_share: where lr is None, the learning rate as a share of the expert's.
        """
        self.starts_from = None if start == "none" else start
        self.lr, self.lr_share = lr, lr_share
        self.epochs, self.batch_size, self.warmup = epochs, batch_size, warmup


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
