"""The experts of a finished run, asked about cases: what they write, and how they rate."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from r4r.errors import ConfigError, DataError
from r4r.lm.engine import Shared
from r4r.lm.rate import decode
from r4r.lm.rating_tokens import rating_tokens
from r4r.lm.write import write_batches
from r4r.rows import Case
from r4r.serve.cases import Rating
from r4r.serve.finished import FinishedJob
from r4r.stages.histories import fitted, one_line
from r4r.stages.ratings import Ratings
from r4r.stages.reward import RATING_TOKENS
from r4r.stages.train import use_adapter
from r4r.stages.written import Written

REMEMBERED = 64  # cases whose answers are kept
HELD = 4  # cases whose rating prompts stay computed, so that another reason is rated from where it departs
TOO_LONG = "drop_oldest"  # a prompt beyond the model's length loses its oldest entries, whatever the job's setting
_NO_CASE = Case(-1, "", "", (), (), None, None)


class Experts:
    """The adapters of a run's steps on its base model.

    Attributes:
        writers: the stages of the steps that write, in their order.
        scale: of the ratings.
        lock: held by a call while it computes; one call is computed at a time.
    """

    def __init__(self, job: FinishedJob, final: Ratings):
        """
        Args:
            final: the run's last stage, which rates.

        Raises:
            StoreError: an adapter is not in the store.
            ModelError: the base model cannot be had.
        """
        self.job, self.final, self.scale = job, final, final.shown.scale
        texts = [thought.texts for thought in final.thoughts]
        self.writers: list[Written] = texts + ([final.answers] if final.answers is not None else [])
        self.lock = threading.RLock()
        self._closed = False
        self._answers: OrderedDict[Case, tuple[str, ...]] = OrderedDict()
        self._held: OrderedDict[Case, Shared] = OrderedDict()
        steps: list[Written | Ratings] = [*self.writers, final]
        for stage in steps:
            use_adapter(job, stage.expert.place, job.materialize(stage.trained))

    def close(self) -> None:
        """Give back what the engine holds."""
        self._closed = True
        self._held.clear()
        self.job.close()

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """
        Raises:
            DataError: the pipeline is closed.
        """
        with self.lock:
            if self._closed:
                raise DataError("this pipeline is closed; load the run again")
            yield

    def answers(self, cases: Sequence[Case]) -> list[tuple[str, ...]]:
        """What each step that writes answers about each case, as it stands."""
        with self._in_turn():
            new = list(dict.fromkeys(case for case in cases if case not in self._answers))
            found = dict(zip(new, self._write(new), strict=True)) if new else {}
            found |= {case: self._answers[case] for case in cases if case in self._answers}
            _remember(self._answers, found, REMEMBERED)
            return [found[case] for case in cases]

    def _write(self, cases: Sequence[Case]) -> list[tuple[str, ...]]:
        answers: list[tuple[str, ...]] = [()] * len(cases)
        limit, chat = self.job.config.llm.max_length, self.job.chat
        for stage in self.writers:
            own = [self._thinking(case, so_far) for case, so_far in zip(cases, answers, strict=True)]
            fit = fitted(chat, stage.expert.expert.prompt, own, limit, stage.max_new_tokens, TOO_LONG)
            for places, made in write_batches(self.job.engine, fit.prompts, stage.max_new_tokens, stage.expert.place):
                for place, one in zip(places, made, strict=True):
                    answers[place] = (*answers[place], one.text)
        return answers

    def _thinking(self, case: Case, answers: Sequence[str]) -> Case:
        """The case with what these steps think."""
        read = [thought.expert.expert.read(text) for thought, text in zip(self.final.thoughts, answers, strict=False)]
        return case.thinking(*read)

    def reason_in(self, answers: Sequence[str]) -> str:
        """The reason in the answers, as the run's `detail.parquet` has it."""
        if self.final.answers is not None:
            return str(self.final.expert.expert.read(answers[-1]))
        return "\n".join(self._thinking(_NO_CASE, answers).thoughts)

    def _encode(self, case: Case, answers: Sequence[str], reason: str | None) -> list[int]:
        """Token ids up to where the value of the rating stands."""
        chat, own = self.job.chat, self.final.expert.expert
        if reason is not None:
            self.needs_reasons()
        writer = self.final.answers
        if writer is None:
            return [*self._rating_prompt(case, answers, reason), *rating_tokens(chat, "", self.scale).prefix]
        answer, limit = answers[-1], self.job.config.llm.max_length
        if reason is not None and one_line(reason) != own.read(answer):
            answer = own.revised(answer, one_line(reason))
        head = own.head(answer)[0] if answer else ""
        # shortened as the prompt that the answer was written for
        fit = fitted(chat, own.prompt, [self._thinking(case, answers)], limit, writer.max_new_tokens, TOO_LONG)
        encoded = [*chat.prompt_ids(fit.prompts[0]), *rating_tokens(chat, head, self.scale).prefix]
        if reason is not None and len(encoded) + RATING_TOKENS > limit:
            raise self._too_long(reason)
        return encoded

    def _rating_prompt(self, case: Case, answers: Sequence[str], reason: str | None) -> list[int]:
        """Token ids of the question to an expert that rates without writing."""
        if reason is None:
            case = self._thinking(case, answers)
        else:
            case = case.thinking(*_paragraphs(reason, len(self.final.thoughts)))
        ask, limit = self.final.expert.expert.prompt, self.job.config.llm.max_length
        try:
            fit = fitted(self.job.chat, ask, [case], limit, RATING_TOKENS, TOO_LONG)
        except DataError as error:
            raise error if reason is None else self._too_long(reason) from error
        return self.job.chat.prompt_ids(fit.prompts[0])

    def _too_long(self, reason: str) -> DataError:
        limit = self.job.config.llm.max_length
        return DataError(
            f"the reason, of {len(reason):,} characters, is too long: with it, the prompt is over the {limit:,} tokens "
            "of llm.max_length; shorten it"
        )

    def ratings(self, cases: Sequence[Case], reasons: Sequence[str | None]) -> list[Rating]:
        """The ratings of many cases under these reasons, or their own (None), in their order."""
        with self._in_turn():
            asks = self.final.answers is not None  # it rates in an answer of its own
            own = [case for case, reason in zip(cases, reasons, strict=True) if asks or reason is None]
            answers = dict(zip(own, self.answers(own), strict=True))
            encoded = [self._encode(case, answers.get(case, ()), r) for case, r in zip(cases, reasons, strict=True)]
            found: dict[int, Rating] = {}
            for places in self.job.engine.plan([len(ids) for ids in encoded]):
                some = self.job.engine.rate([encoded[k] for k in places], self.final.expert.place, self.scale)
                found.update(zip(places, self._decoded(some), strict=True))
        return [found[k] for k in range(len(cases))]

    def rate_with(self, case: Case, reason: str) -> Rating:
        """The rating under a reason. The beginning of the prompt is computed once a case."""
        self.needs_reasons()
        answers = self.answers([case])[0]
        if self.final.answers is not None:
            encoded = self._encode(case, answers, reason)
            return self._decoded(self.job.engine.rate([encoded], self.final.expert.place, self.scale))[0]
        held = self._held.get(case)
        if held is None:
            whole = self._rating_prompt(case, answers, None)
            held = self.job.engine.share([whole], [len(whole)], self.final.expert.place)
        _remember(self._held, {case: held}, HELD)
        return self._decoded(held.rate([0], [self._rating_prompt(case, answers, reason)], self.scale))[0]

    def _decoded(self, probabilities: Any) -> list[Rating]:
        decoded = decode(probabilities, self.scale)
        return [
            Rating(self.scale.values, tuple(row), *(float(decoded[name][k]) for name in ("mean", "median", "mode")))
            for k, row in enumerate(probabilities.tolist())
        ]

    def needs_reasons(self) -> None:
        """
        Raises:
            ConfigError: no step writes.
        """
        if not self.writers:
            raise ConfigError([f"strategy={self.job.config.strategy.name} rates without a reason"])


def _paragraphs(reason: str, most: int) -> list[str]:
    """A reason as the thoughts of so many steps: a line each, the last one's all that is left, each on one line."""
    lines = [line for line in map(one_line, reason.splitlines()) if line]
    return [*lines[: most - 1], " ".join(lines[most - 1 :])] if len(lines) > most else lines


def _remember(kept: "OrderedDict[Case, Any]", new: Mapping[Case, Any], most: int) -> None:
    """Put these in, as the newest, and the oldest out."""
    for case, value in new.items():
        kept[case] = value
        kept.move_to_end(case)
    while len(kept) > most:
        kept.popitem(last=False)
