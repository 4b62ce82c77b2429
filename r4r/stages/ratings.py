"""What the last step gives: a rating of each row, at once or in the answer that it writes (paper 3.4)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch

from r4r.configuration.schema import EvaluateConfig
from r4r.lm.chat import Chat
from r4r.lm.rate import decode
from r4r.lm.rating_tokens import rating_tokens
from r4r.pipeline.stage import Stage
from r4r.progress import say
from r4r.rows import PREDICTIONS, REVIEWS, TEXTS, Case
from r4r.stages.estimate import Estimate
from r4r.stages.histories import Fitted, Histories, fitted
from r4r.stages.lessons import Thought, with_thoughts
from r4r.stages.mounted import Asked
from r4r.stages.rate import rate_rows
from r4r.stages.reward import RATING_TOKENS
from r4r.stages.split import evaluated_rows
from r4r.stages.stage import Work
from r4r.stages.timing import Inference, Round
from r4r.stages.train import Training, use_adapter
from r4r.stages.written import Written
from r4r.store.artifact import write_table


@dataclass(frozen=True)
class Ratings(Stage):
    """Artifact: `data.parquet` (rows.PREDICTIONS); `detail.parquet` adds the reason, and each value's probability.

    Attributes:
        thoughts: what the earlier steps wrote about the evaluated rows.
        answers: where the last step writes before it rates, its texts; else None.
    """

    version: ClassVar[int] = 3

    expert: Asked
    trained: Training
    shown: Histories
    evaluate: EvaluateConfig
    thoughts: tuple[Thought, ...]
    answers: Written | None
    label: str
    llm: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"predict/{self.evaluate.split}"

    @property
    def estimate(self) -> Estimate:
        return Estimate(lambda known: known.evaluated, f"{self.evaluate.split} rows")

    def build(self, work: Work) -> dict[str, Any]:
        rows = evaluated_rows(self.evaluate, work.of(self.shown.split).table(REVIEWS))
        cases = with_thoughts(work, self.shown.cases(work, rows), self.thoughts)
        texts: dict[int, str] = {}
        if self.answers is not None:
            table = work.of(self.answers).table(TEXTS)
            texts = dict(zip(table["row_id"].tolist(), table["text"], strict=True))
        encoded, unfinished = [], 0
        fit = self._fitted(work.job.chat, self.expert.expert.prompt, cases, self._room)
        cases, facts = fit.cases, fit.facts
        for case in cases:
            ids, finished = self._encode(work.job.chat, case, texts.get(case.row_id, ""))
            encoded.append(ids)
            unfinished += not finished
        if self.answers is not None:
            facts["answers_without_rating"] = unfinished
            reasons = {row_id: self.expert.expert.read(text) for row_id, text in texts.items()}
            if unfinished:
                say(f"  {unfinished} of {len(cases)} answers never came to a rating; it was asked for where they end")
        else:
            reasons = {case.row_id: "\n".join(case.thoughts) for case in cases if case.thoughts}
        use_adapter(work.job, self.expert.place, work.of(self.trained))
        row_ids = [case.row_id for case in cases]
        return facts | rate_rows(work, self.expert.place, row_ids, encoded, reasons, self.label, self.shown.scale)

    @property
    def _room(self) -> int:
        """Tokens behind the prompt: as many as the answer was given, so that it is rated behind the prompt that it was
        written for."""
        return RATING_TOKENS if self.answers is None else self.answers.max_new_tokens

    def _fitted(self, chat: Chat, ask: Callable[[Case], str], cases: Sequence[Case], room: int) -> Fitted:
        return fitted(chat, ask, cases, self.llm["max_length"], room, self.shown.overflow)

    def _encode(self, chat: Chat, case: Case, answer: str) -> tuple[list[int], bool]:
        """Token ids up to where the rating's value stands, and whether the answer had come to it."""
        own = self.expert.expert
        head, finished = own.head(answer) if self.answers is not None else ("", True)
        return [*chat.prompt_ids(own.prompt(case)), *rating_tokens(chat, head, self.shown.scale).prefix], finished

    def infer(self, work: Work, rows: pd.DataFrame) -> Inference:  # type: ignore[override]
        """Every step that writes, then the rating, afresh."""
        cases, chat = self.shown.cases(work, rows), work.job.chat
        writers = [thought.texts for thought in self.thoughts] + ([self.answers] if self.answers is not None else [])
        for stage in (*writers, self):
            use_adapter(work.job, stage.expert.place, work.of(stage.trained))
        read = [thought.expert.expert.read for thought in self.thoughts]

        def known(place: int, texts: Sequence[str]) -> Case:
            return cases[place].thinking(*(own_read(text) for own_read, text in zip(read, texts, strict=False)))

        def round_of(stage: Written) -> Round:
            ask, room = stage.expert.expert.prompt, stage.max_new_tokens

            def prompt(place: int, texts: Sequence[str]) -> str:
                return self._fitted(chat, ask, [known(place, texts)], room).prompts[0]

            return Round(stage.expert.place, prompt, room)

        def encode(place: int, texts: Sequence[str]) -> tuple[list[int], bool]:
            answer = texts[-1] if self.answers is not None else ""
            own = [known(place, texts[: len(read)])]
            [case] = self._fitted(chat, self.expert.expert.prompt, own, self._room).cases
            ids, finished = self._encode(chat, case, answer)
            return ids, finished and self.answers is not None

        return Inference([round_of(stage) for stage in writers], self.expert.place, encode, self.shown.scale)


@dataclass(frozen=True)
class SampledRatings(Ratings):
    """The ratings by one of several reasons that were drawn for each row.

    Attributes:
        sample: which one, from 1.
    """

    infer: ClassVar[Any] = None  # type: ignore[misc]

    sample: int

    @property
    def name(self) -> str:
        return f"{super().name}.{self.sample}"


@dataclass(frozen=True)
class AveragedRatings(Stage):
    """Artifact: as `Ratings`; each value's probability is its mean over the parts. The reason shown is the first's."""

    parts: tuple[SampledRatings, ...]
    label: str

    @property
    def name(self) -> str:
        return f"predict/{self.parts[0].evaluate.split}"

    @property
    def trained(self) -> Training:
        """Who rates."""
        return self.parts[0].trained

    def build(self, work: Work) -> dict[str, Any]:
        tables = [
            pd.read_parquet(work.of(part).path / "detail.parquet").sort_values("row_id", ignore_index=True)
            for part in self.parts
        ]
        scale, table = self.parts[0].shown.scale, tables[0].copy()
        table["label"] = self.label
        names = [f"p{value:g}" for value in scale.values]
        means = np.mean([one[names].to_numpy(dtype=float) for one in tables], axis=0)
        table[names] = means
        for decoding, values in decode(torch.from_numpy(means), scale).items():
            table[decoding] = np.asarray(values, dtype=float)
        write_table(work.folder / "data.parquet", table[list(PREDICTIONS)], PREDICTIONS)
        table.to_parquet(work.folder / "detail.parquet", index=False)
        return {"predictions": len(table), "reasons": len(tables)}
