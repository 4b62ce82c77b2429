"""What the experts are shown of a target's past: summaries, or the raw reviews where the first step is ablated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from r4r.configuration.schema import Config
from r4r.errors import ConfigError, DataError
from r4r.lm.chat import Chat
from r4r.rows import POOLS, REVIEWS, SUMMARIES, Case
from r4r.scale import Scale
from r4r.stages.cases import cases_like, rows_of
from r4r.stages.identity import tokenizer_identity
from r4r.stages.split import split_stage
from r4r.stages.stage import Work
from r4r.stages.summarize import summaries_stage

FRAME, ENTRY = 400, 30  # tokens of a prompt beside its histories, and of a history's entry beside its text, about


@dataclass(frozen=True)
class Cut:
    """A limit for a review in a prompt.

    Attributes:
        tokens: how many it may keep.
        tokenizer: identity of the tokenizer that counts them.
    """

    tokens: int
    tokenizer: Mapping[str, Any]

    def __call__(self, chat: Chat, review: str) -> str:
        return chat.clip(review, self.tokens)


@dataclass(frozen=True)
class Histories:
    """What a prompt shows of a target's past, as a field of the stages that ask such prompts.

    Attributes:
        newest: entries a side.
        source: the splits whose rows a history may show.
        overflow: what happens to a prompt that is too long for the model.
        summaries: the stage whose summaries the entries show; None: they show raw reviews, cut by `raw`.
    """

    split: Any
    category: str
    scale: Scale
    newest: int
    source: str
    overflow: Literal["error", "drop_oldest"]
    summaries: Any = None
    raw: Cut | None = None

    def cases(self, work: Work, targets: pd.DataFrame) -> list[Case]:
        """A case a target, in the targets' order."""
        rows = work.of(self.split).table(REVIEWS)
        blank = Case(-1, "", self.category, (), (), None, None, scale=self.scale)
        return cases_like(blank, self.source, self.newest, rows, targets, self._texts(work, rows))

    def _texts(self, work: Work, rows: pd.DataFrame) -> Mapping[int, str]:
        if self.summaries is not None:
            summaries = work.of(self.summaries).table(SUMMARIES)
            return dict(zip(summaries["row_id"].tolist(), summaries["summary"], strict=True))
        assert self.raw is not None
        past = rows_of(self.source, rows)
        return {
            row_id: self.raw(work.job.chat, one_line(review))
            for row_id, review in zip(past["row_id"].tolist(), past["review"], strict=True)
        }


def histories(config: Config, shown: str | None = None) -> Histories:
    """The histories of the configuration.

    Args:
        shown: summaries | reviews; None: what the strategy shows to the reasoner, the predictor and the reward model.
    """
    by_summary = (shown or config.strategy.reasoned_from) == "summaries"
    if by_summary:
        return replace(bare_histories(config), summaries=summaries_stage(config))
    return replace(bare_histories(config), raw=Cut(raw_tokens(config), tokenizer_identity(config)))


def bare_histories(config: Config) -> Histories:
    """The histories of the configuration, without what their entries show."""
    dataset = config.dataset
    chosen = dataset.history
    return Histories(
        split_stage(config),
        dataset.category,
        dataset.rating_scale,
        chosen.prompt,
        chosen.source,
        chosen.overflow,
    )


def raw_tokens(config: Config) -> int:
    """The tokens that a raw review in a history may take: the data set's setting, or what llm.max_length has room for.

    Raises:
        ConfigError: there is no room for so many reviews.
    """
    chosen = config.dataset.history
    if chosen.raw_tokens is not None:
        return chosen.raw_tokens
    written = [node.get("max_new_tokens", 0) for node in config.experts.values()]
    room = config.llm.max_length - FRAME - max([config.teacher.reason_max_tokens, *written])
    each = room // (2 * chosen.prompt) - ENTRY
    if each < 8:
        raise ConfigError(
            [
                f"dataset.history.prompt={chosen.prompt}: llm.max_length={config.llm.max_length} has no room for so "
                "many raw reviews a side; lower the one, raise the other, or set dataset.history.raw_tokens"
            ]
        )
    return min(each, chosen.review_tokens)


@dataclass(frozen=True)
class Fitted:
    """Cases whose prompts the model has room for.

    Attributes:
        cases: in the order given, histories shortened where need be.
        prompts: of the cases.
        dropped: how many history entries were left out, the oldest first.
        shortened: of how many prompts.
    """

    cases: list[Case]
    prompts: list[str]
    dropped: int
    shortened: int

    @property
    def facts(self) -> dict[str, int]:
        """For the manifest."""
        return {"history_entries_dropped": self.dropped, "prompts_shortened": self.shortened}


def fitted(
    chat: Chat,
    prompt: Callable[[Case], str],
    cases: Sequence[Case],
    max_length: int,
    reserve: Sequence[int] | int,
    overflow: str,
) -> Fitted:
    """The prompts of the cases, each within the model's length.

    Args:
        prompt: makes a case's prompt.
        max_length: tokens of prompt and answer.
        reserve: tokens that the answer may take, for all cases or one a case.
        overflow: `drop_oldest` leaves out the oldest entries of the longer history until the prompt fits.

    Raises:
        DataError: naming the first row whose prompt does not fit, with `overflow=error` or no history left to drop.
    """
    rooms = [max_length - reserve] * len(cases) if isinstance(reserve, int) else [max_length - r for r in reserve]
    kept, prompts, dropped, shortened = [], [], 0, 0
    for case, room in zip(cases, rooms, strict=True):
        text, entries = prompt(case), len(case.user_history) + len(case.item_history)
        while (length := len(chat.prompt_ids(text))) > room:
            users, items = case.user_history, case.item_history
            if overflow == "error" or not (users or items):
                hint = "" if overflow == "drop_oldest" else ", or set dataset.history.overflow=drop_oldest"
                raise DataError(
                    f"row {case.row_id}: its prompt takes {length} tokens, and with {max_length - room} for the answer "
                    f"it is over llm.max_length={max_length}; raise that, lower dataset.history.prompt, "
                    f"dataset.history.review_tokens or dataset.history.raw_tokens{hint}"
                )
            if len(users) >= len(items):
                case = replace(case, user_history=users[1:])
            else:
                case = replace(case, item_history=items[1:])
            text = prompt(case)
        gone = entries - len(case.user_history) - len(case.item_history)
        dropped += gone
        shortened += gone > 0
        kept.append(case)
        prompts.append(text)
    return Fitted(kept, prompts, dropped, shortened)


def rows_of_pool(work: Work, split: Any, pools: Any, pool: str) -> pd.DataFrame:
    """The rows of a pool (rows.REVIEWS), by row_id."""
    members = work.of(pools).table(POOLS)
    rows = work.of(split).table(REVIEWS)
    return rows[rows["row_id"].isin(members.loc[members["pool"] == pool, "row_id"])].reset_index(drop=True)


def one_line(text: str) -> str:
    """The text as one paragraph: its line breaks could fake a section of the prompt that holds it."""
    return " ".join(text.split())
