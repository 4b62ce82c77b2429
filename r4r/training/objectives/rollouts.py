"""Objectives that learn from answers of their own: sample a group of answers to each prompt, score them, learn."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import Field

from r4r.errors import TrainingError
from r4r.lm.base import LanguageModel
from r4r.lm.engine import HF
from r4r.lm.loss import Example
from r4r.progress import say
from r4r.training.objectives.base import Material, Onward
from r4r.training.switching import set_aside

HOPELESS = 50  # steps


@dataclass(frozen=True)
class Prompt:
    """A prompt to answer.

    Attributes:
        room: tokens that an answer may take.
    """

    row_id: int
    ids: tuple[int, ...]
    room: int

    def __len__(self) -> int:
        return len(self.ids) + self.room


@dataclass(frozen=True)
class Answer:
    """An answer of the model that trains, as rewards see it.

    Attributes:
        tokens: how many it takes, the end of the turn among them.
        room: how many it may take.
        finished: whether it came to its end; else it was cut.
    """

    row_id: int
    text: str
    tokens: int
    room: int
    finished: bool


@dataclass(frozen=True)
class Rollout(Example):
    """An answer to learn from.

    Attributes:
        advantage: how much better than its group it was.
        old, reference: log-probability of each token by the adapter that wrote it, and by the reference; None where
            the loss needs none.
    """

    advantage: float = 0.0
    old: tuple[float, ...] | None = None
    reference: tuple[float, ...] | None = None


class Rolling(Onward):
    """Answers in groups, with their rewards; subclasses say what is learnt of a group.

    The reward that `fit` is handed (service `reward`) takes a step's answers and gives, by the name of each component,
    a reward for every answer, and under "" the weighted sum, which counts.
    """

    material: ClassVar[Material] = "prompts"
    needs: ClassVar[frozenset[str]] = frozenset({"reward"})

    def __init__(
        self,
        rewards: Mapping[str, Any],
        group: Annotated[int, Field(ge=2)],
        temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)],
        start: Literal["sft", "none"],
        lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None,
        lr_share: Annotated[float, Field(gt=0, allow_inf_nan=False)],
        epochs: Annotated[int, Field(ge=1)] | None,
        batch_size: Annotated[int, Field(ge=1)] | None,
        warmup: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None,
    ):
        """
        Args:
            rewards: components by name (`conf/reward`); their weighted sum is the reward.
            group: answers to each prompt.
            temperature: of sampling.
            start, lr, lr_share, epochs, batch_size, warmup: as of Onward; a batch is of prompts.
        """
        super().__init__(start, lr, lr_share, epochs, batch_size, warmup)
        self.rewards = {name: reward for name, reward in rewards.items() if reward is not None}
        self.group, self.temperature = group, temperature
        self._told_apart, self._alike = False, 0  # whether any group had two rewards; steps of which none had
        self._held: tuple[int, list[Any], float] | None = None  # step, what was gathered then, its weight

    def encode(self, lm: LanguageModel, texts: Sequence[tuple[int, str, int]]) -> list[Any]:
        prompts: list[Any] = []
        for row_id, text, room in texts:
            prompt = Prompt(row_id, tuple(lm.chat.prompt_ids(text)), room)
            if len(prompt) > lm.spec.max_length:
                raise TrainingError(
                    f"row {row_id}: its prompt takes {len(prompt.ids)} tokens, and with {room} for the answer it is "
                    f"over llm.max_length={lm.spec.max_length}; lower dataset.history.prompt, or raise that"
                )
            prompts.append(prompt)
        return prompts

    def sizes(self, example: Prompt) -> list[int]:
        return [len(example)] * self.group

    def gather(self, examples: Sequence[Prompt], step: int) -> tuple[Sequence[Any], float]:
        first = step - step % self.repeats
        if self._held is None or self._held[0] != first:
            around = self.around
            with set_aside(around.lm, around.adapter):
                learnt, weight = self._learnt(examples, first)
            self._held = first, learnt, weight
        return self._held[1], self._held[2]

    def _learnt(self, prompts: Sequence[Prompt], step: int) -> tuple[list[Any], float]:
        if not prompts:  # of a step with fewer prompts than processes
            return [], 0.0
        answers, texts = self._sample(prompts, step)
        rewards = self.around.services["reward"](texts)
        self._measure(texts, rewards)
        groups = [range(n * self.group, (n + 1) * self.group) for n in range(len(prompts))]
        return self.learn(answers, rewards[""], groups)

    def learn(
        self, answers: Sequence[Example], rewards: Sequence[float], groups: Sequence[Sequence[int]]
    ) -> tuple[list[Any], float]:
        """What to learn of a step's answers, and its weight.

        Args:
            groups: places of the answers to each prompt.
        """
        raise NotImplementedError

    def _sample(self, prompts: Sequence[Prompt], step: int) -> tuple[list[Example], list[Answer]]:
        """A group of answers to each prompt, group after group. An answer depends on seed, step and prompt alone."""
        around, size = self.around, self.group
        engine = HF(around.lm)
        found: dict[int, list[list[int]]] = {}
        # a prompt with its whole group at once, so that what the group shares is computed once
        room = max(prompt.room for prompt in prompts)
        for places in engine.plan([len(prompt.ids) * size for prompt in prompts], room * size):
            own = [prompts[place] for place in places for _ in range(size)]
            seeds = [answer_seed(around.seed, step, prompts[place].row_id, n) for place in places for n in range(size)]
            ids = engine.write([p.ids for p in own], around.adapter, room, self.temperature, seeds)
            for n, place in enumerate(places):
                found[place] = [answer[: prompts[place].room] for answer in ids[n * size : (n + 1) * size]]
        examples, answers = [], []
        for place, prompt in enumerate(prompts):
            for tokens in found[place]:
                finished = tokens[-1] in around.lm.chat.end_ids
                examples.append(Example(prompt.ids, tuple(tokens)))
                text = around.lm.chat.text(tokens)
                answers.append(Answer(prompt.row_id, text, len(tokens), prompt.room, finished))
        return examples, answers

    def _measure(self, answers: Sequence[Answer], rewards: Mapping[str, Sequence[float]]) -> None:
        meter = self.meter
        for name, values in rewards.items():
            meter.add(f"reward/{name}/" if name else "reward/", values)
        whole = rewards[""]
        spreads = [
            max(part) - min(part) for part in (whole[n : n + self.group] for n in range(0, len(whole), self.group))
        ]
        meter.add("groups_of_equal_rewards", [float(spread == 0) for spread in spreads])
        meter.add("answers_cut", [float(not answer.finished) for answer in answers])
        meter.add("answer_tokens/", [float(answer.tokens) for answer in answers])
        meter.add(
            "answers_distinct",
            [
                len({a.text for a in answers[n : n + self.group]}) / self.group
                for n in range(0, len(answers), self.group)
            ],
        )

    def watch(self, measured: Mapping[str, float]) -> None:
        if "reward/mean" not in measured or self._told_apart:
            return
        self._told_apart = measured["groups_of_equal_rewards"] < 1
        self._alike += 1
        if self._alike >= HOPELESS and not self._told_apart:  # as nothing was learnt, later ones will be no better
            raise self._nothing_to_learn(f"the first {HOPELESS} steps", [measured])

    def _nothing_to_learn(self, when: str, steps: Sequence[Mapping[str, float]]) -> TrainingError:
        mean, cut = (fmean([row[name] for row in steps]) for name in ("reward/mean", "answers_cut"))
        return TrainingError(
            f"{self.around.adapter}: in {when}, no answer was rewarded more than another to the same prompt (mean "
            f"reward {mean:g}), so there was nothing to learn. {cut:.0%} of the answers were cut: where many are, "
            "raise the expert's max_new_tokens; else begin with an adapter that knows the format (start=sft; RecOne in "
            "place of RecZero)"
        )

    def check(self, steps: Sequence[Mapping[str, float]]) -> None:
        scored = [row for row in steps if "reward/mean" in row]
        if all(row["groups_of_equal_rewards"] == 1.0 for row in scored):
            raise self._nothing_to_learn(f"all {len(steps)} steps", scored)
        for name in self.rewards:
            known = [row for row in steps if f"reward/{name}/mean" in row]
            values = {row[f"reward/{name}/mean"] for row in known}
            if len(values) == 1 and all(row[f"reward/{name}/sd"] == 0 for row in known):
                say(
                    f"  reward {name} was {values.pop():g} for every answer of all {len(known)} steps: nothing was "
                    f"learnt from it (answers are sampled at a temperature of {self.temperature:g})"
                )

    def state(self) -> Any:
        kept: dict[str, Any] = {"told_apart": self._told_apart, "alike": self._alike}
        if self._held is not None and self.repeats > 1:
            step, learnt, weight = self._held
            kept |= {"step": step, "weight": weight, "learnt": [asdict(example) for example in learnt]}
        return kept

    def restore(self, state: Any) -> None:
        self._held = None
        state = state or {"told_apart": True, "alike": 0}  # of an earlier version, whose count is not known
        self._told_apart, self._alike = state["told_apart"], state["alike"]
        if "learnt" in state:
            rollouts: list[Any] = [
                Rollout(**cast(Any, {k: tuple(v) if isinstance(v, list) else v for k, v in each.items()}))
                for each in state["learnt"]
            ]
            self._held = state["step"], rollouts, state["weight"]


def answer_seed(seed: int, step: int, row_id: int, number: int) -> int:
    """A seed (31 bits) for one answer."""
    told = f"{seed} {step} {row_id} {number}".encode()
    return int.from_bytes(hashlib.sha256(told).digest()[:4], "big") >> 1
