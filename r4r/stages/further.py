"""Train a step by its objective: on lessons or, from the adapter that SFT trained, by preferences or rewards."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import yaml

from r4r.configuration.schema import Config
from r4r.errors import ConfigError, DataError
from r4r.files import conf_dir
from r4r.lm.engine import HF
from r4r.pipeline.stage import Stage
from r4r.progress import say
from r4r.rewards.base import Bench, Known, Rate, WeightedSum
from r4r.rows import CANDIDATES, REVIEWS, Case, Lesson, Schema
from r4r.stages.estimate import Estimate
from r4r.stages.histories import Histories, fitted
from r4r.stages.identity import llm_identity
from r4r.stages.lessons import Pairs, StepLessons, Thought, with_thoughts
from r4r.stages.mounted import Asked, mounted
from r4r.stages.planted import PlantedWorld, planted_world
from r4r.stages.planted_reasons import claims_share, right_verdict
from r4r.stages.reward import RATING_TOKENS, RewardScorer, TargetReviews, reward_model_stage, target_reviews
from r4r.stages.stage import Work
from r4r.stages.train import Training, training
from r4r.store.artifact import write_table
from r4r.training.expert import Writer

PREFERENCES: Schema = {"row_id": "int64", "prompt": "str", "chosen": "str", "rejected": "str", "margin": "float64"}
PROMPTS: Schema = {"row_id": "int64", "prompt": "str"}


@dataclass(frozen=True)
class Frozen:
    """A trained expert that rates what another one writes.

    Attributes:
        expert: as it asks; its place is its adapter's name.
    """

    expert: Asked
    trained: Training


@dataclass(frozen=True)
class Preferences(Stage):
    """Artifact: `data.parquet` (PREFERENCES): of each pair the accepted candidate and its worst rejected one.

    Attributes:
        candidates: the stage whose artifact holds `candidates.parquet` (rows.CANDIDATES).
        margin: how much worse by s_eval the rejected one must be, in rating points.
    """

    expert: Asked
    shown: Histories
    thoughts: tuple[Thought, ...]
    candidates: Any
    margin: float
    llm: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"train/{self.expert.place}.preferences"

    def build(self, work: Work) -> dict[str, Any]:
        """
        Raises:
            DataError: no pair has candidates of both kinds.
        """
        tried = work.of(self.candidates).table(CANDIDATES, "candidates.parquet")
        accepted = tried[tried["accepted"]].set_index("row_id")
        scored = tried[tried["cause"] == "score"].sort_values(["row_id", "s_eval", "attempt"])
        worst = scored.groupby("row_id").tail(1).set_index("row_id")
        lost = worst[["reason", "s_eval"]].add_suffix("_worst")
        both = accepted[["rating", "reason", "s_eval"]].join(lost, how="inner")
        both["margin"] = both["s_eval_worst"] - both["s_eval"]
        kept = both[(both["margin"] >= self.margin) & (both["reason"] != both["reason_worst"])].sort_index()
        dropped = {"no rejected candidate": len(accepted) - len(both), "within the margin": len(both) - len(kept)}
        say(f"  {len(kept)} preferences of {len(accepted)} accepted reasons; left out: {dropped}")
        if kept.empty:
            raise DataError(
                f"no pair has an accepted and a worse rejected candidate to learn a preference from ({dropped}); raise "
                "reason_source.max_hinted, lower reason_source.tau or the objective's margin, or enlarge dataset.pools"
            )
        rows = work.of(self.shown.split).table(REVIEWS).set_index("row_id").loc[kept.index].reset_index()
        cases = with_thoughts(work, self.shown.cases(work, rows), self.thoughts)
        own, chat = self.expert.expert, work.job.chat
        sides = [
            [own.target(c, Lesson(r, t)) for c, r, t in zip(cases, kept["rating"], kept[side], strict=True)]
            for side in ("reason", "reason_worst")
        ]
        room = [max(len(chat.reply_ids(text)) for text in texts) for texts in zip(*sides, strict=True)]
        fit_ = fitted(chat, own.prompt, cases, self.llm["max_length"], room, self.shown.overflow)
        table = pd.DataFrame({"row_id": kept.index, "prompt": fit_.prompts, "chosen": sides[0], "rejected": sides[1]})
        write_table(work.folder / "data.parquet", table.assign(margin=kept["margin"].to_numpy()), PREFERENCES)
        return {"pairs": len(accepted), "kept": len(kept), "dropped": dropped, **fit_.facts}


@dataclass(frozen=True)
class Prompts(Stage):
    """Artifact: `data.parquet` (PROMPTS), what an expert answers to learn from its own answers.

    Attributes:
        thoughts: what the earlier steps wrote for these pairs.
    """

    expert: Asked
    shown: Histories
    pairs: Pairs
    thoughts: tuple[Thought, ...]
    llm: Mapping[str, Any]
    max_new_tokens: int

    @property
    def name(self) -> str:
        return f"train/{self.expert.place}.prompts"

    def cases(self, work: Work) -> list[Case]:
        return with_thoughts(work, self.shown.cases(work, self.pairs.rows(work)), self.thoughts)

    def build(self, work: Work) -> dict[str, Any]:
        cases = self.cases(work)
        if not cases:
            raise DataError(f"there is no pair to train {self.expert.place} on; enlarge the data set or dataset.pools")
        limits = self.llm["max_length"], self.max_new_tokens
        fit_ = fitted(work.job.chat, self.expert.expert.prompt, cases, *limits, self.shown.overflow)
        table = pd.DataFrame({"row_id": [case.row_id for case in cases], "prompt": fit_.prompts})
        write_table(work.folder / "data.parquet", table, PROMPTS)
        return {"prompts": len(table), **fit_.facts}


@dataclass(frozen=True)
class Furthered(Training):
    """Artifact: `adapter/`, in peft's format; `steps.jsonl` and `steps.png`, what each step measured.

    Attributes:
        lessons: Preferences or Prompts.
        start: the training whose adapter this one begins with; None: a fresh adapter.
        raters: whom rewards ask, by the name that they ask for; as planted, the simulated world's truth.
        reviews: the targets' own reviews, where a reward compares with them.
    """

    version: ClassVar[int] = 3

    start: Training | None
    raters: Mapping[str, Frozen | PlantedWorld]
    reviews: TargetReviews | None

    @property
    def estimate(self) -> Estimate:
        epochs = self.expert.expert.objective.epochs or self.expert.node["epochs"]
        return Estimate(lambda known: known.experts, "pairs at most", epochs)

    def build(self, work: Work) -> dict[str, Any]:
        from r4r.training.fit import fit  # Lightning takes seconds to import

        lm, own = work.job.lm, self.expert.expert
        objective, place = own.objective, self.expert.place
        services: dict[str, Any] = {}
        if isinstance(self.lessons, Preferences):
            table = work.of(self.lessons).table(PREFERENCES)
            both = zip(table["chosen"], table["rejected"], strict=True)
            material = list(zip(table["row_id"].tolist(), table["prompt"], both, strict=True))
        else:
            table = work.of(self.lessons).table(PROMPTS)
            room = [self.lessons.max_new_tokens] * len(table)
            material = list(zip(table["row_id"].tolist(), table["prompt"], room, strict=True))
            services["reward"] = self._reward(work)
        if "engine" in vars(work.job):
            work.job.engine.rest()  # the training has the GPU to itself
        start = None if self.start is None else work.of(self.start).path / "adapter"
        examples, trainer = objective.encode(lm, material), work.job.config.trainer
        facts = fit(
            own, lm, place, examples, work.folder, trainer, self.seed, work.job.log, start=start, services=services
        )
        return facts

    def _reward(self, work: Work) -> WeightedSum:
        assert isinstance(self.lessons, Prompts)
        rows = self.lessons.pairs.rows(work)
        reviews = [""] * len(rows) if self.reviews is None else self.reviews.texts(work.job.chat, rows)
        known = zip(self.lessons.cases(work), rows["rating"].tolist(), reviews, strict=True)
        pairs = {case.row_id: Known(case, rating, review) for case, rating, review in known}
        raters: dict[str, Rate] = {}
        for name, asked in self.raters.items():
            raters |= {name: self._rater(work, asked, pairs)} if isinstance(asked, Frozen) else _truth(asked, rows)
        own = self.expert.expert
        return WeightedSum(own.objective.rewards, pairs, Bench(own, raters))

    def _rater(self, work: Work, frozen: Frozen, pairs: Mapping[int, Known]) -> Rate:
        """The frozen expert's ratings, by the base model that trains: what a pair's prompts share is computed once.

        Histories are shortened as for that expert's own lessons, where it could not read them with the longest answer.
        """
        assert isinstance(self.lessons, Prompts)
        engine, own = HF(work.job.lm), frozen.expert.expert
        engine.load_adapter(frozen.expert.place, work.of(frozen.trained).path / "adapter")
        limit, most, shown = self.llm["max_length"], self.lessons.max_new_tokens, self.lessons.shown
        longest = [max(most, len(engine.chat.reply_ids(pair.review))) + RATING_TOKENS for pair in pairs.values()]
        cases = [pair.case for pair in pairs.values()]
        fit_ = fitted(engine.chat, lambda case: own.prompt(case.thinking("")), cases, limit, longest, shown.overflow)
        fitting = {case.row_id: case for case in fit_.cases}

        def rate(known: Sequence[Known], texts: Sequence[str]) -> Sequence[float]:
            places = {row_id: n for n, row_id in enumerate(dict.fromkeys(pair.case.row_id for pair in known))}
            scorer = RewardScorer(engine, frozen.expert, [fitting[row_id] for row_id in places])
            return scorer([places[pair.case.row_id] for pair in known], texts)

        return rate


def _truth(world: PlantedWorld, rows: pd.DataFrame) -> dict[str, Rate]:
    """What was planted, as rewards ask for it.

    Args:
        rows: rows.REVIEWS of the pairs.
    """
    planted = {row.row_id: row for row in world.reviews(rows).itertuples()}

    def rate(value: Callable[[PlantedWorld, Any, str], float]) -> Rate:
        return lambda known, texts: [
            value(world, planted[pair.case.row_id], text) for pair, text in zip(known, texts, strict=True)
        ]

    return {"planted_verdict": rate(right_verdict), "planted_claims": rate(claims_share)}


def step_training(config: Config, lessons: StepLessons, predictor: Callable[[Config], Frozen]) -> Training:
    """The training of a step of the deliberation, by the objective of its expert.

    Args:
        lessons: what SFT learns.
        predictor: gives, for a configuration, the strategy's last step, where that rates what this step writes.

    Raises:
        ConfigError: the objective finds in this job nothing to learn from.
    """
    own = lessons.expert
    place, objective = own.place, own.expert.objective
    if objective.material == "lessons" and objective.starts_from is None:
        return training(config, place, lessons)
    if objective.material in ("preferences", "prompts") and not isinstance(own.expert, Writer):
        name = type(objective).__name__
        raise ConfigError(
            [
                f"experts.{place}.objective: {name} learns from texts that the expert writes, and {place} rates "
                f"without writing; take objective@experts.{place}.objective=sft"
            ]
        )
    if objective.material == "preferences":
        material: Stage = Preferences(
            own, lessons.shown, lessons.thoughts, _candidates(place, lessons), objective.margin, lessons.llm
        )
    elif objective.material == "prompts":
        material = Prompts(own, lessons.shown, lessons.pairs, lessons.thoughts, lessons.llm, own.max_new_tokens)
    else:
        material = lessons
    sft = with_sft(config, place)
    start = training(sft, place, lessons) if objective.starts_from else None
    return furthered(config, place, material, start, lambda: predictor(sft))


def furthered(
    config: Config, place: str, material: Stage, start: Training | None, predictor: Callable[[], Frozen]
) -> Furthered:
    """The training of an expert on preferences or prompts.

    Args:
        material: Preferences or Prompts.
        predictor: gives the frozen expert that rewards call the predictor.

    Raises:
        ConfigError: a reward does not fit the expert, or there is none.
    """
    own = mounted(config, place)
    if own.expert.validation_share:
        raise ConfigError([f"experts.{place}.validation_share: only lessons can be held out, and {place} learns none"])
    rewards = getattr(own.expert.objective, "rewards", None)
    where = f"experts.{place}.objective.rewards"
    if rewards is not None and not rewards:
        raise ConfigError([f"{where}: holds no reward; mount one, as in +reward@{where}.format=format"])
    if rewards and not any(reward.weight for reward in rewards.values()):
        raise ConfigError([f"{where}: none of {', '.join(rewards)} counts, as all weights are 0; give one a weight"])
    misfits = {name: reward.misfit(own.expert) for name, reward in (rewards or {}).items()}
    faults = [f"{where}.{name}: does not fit {place}: {why}" for name, why in misfits.items() if why]
    if faults:
        raise ConfigError(faults)
    needs = {name for reward in (rewards or {}).values() for name in reward.needs}
    raters: dict[str, Frozen | PlantedWorld] = {}
    if "planted" in needs:
        raters["planted"] = planted_world(config)
    if "predictor" in needs:
        raters["predictor"] = predictor()
    if "reward_model" in needs:
        if "reward_model" not in config.experts:
            raise ConfigError([f"{where}: strategy={config.strategy.name} trains no reward model; take another reward"])
        trained = reward_model_stage(config)
        raters["reward_model"] = Frozen(Asked(trained.expert.node, "reward_model"), trained)
    reviews = target_reviews(config) if "reward_model" in needs else None
    identity = llm_identity(config), config.trainer.identity(), config.seed
    return Furthered(own, material, *identity, start, raters, reviews)


def with_sft(config: Config, place: str) -> Config:
    """The same job with an expert that learns by SFT, from the same part of its answers."""
    node = yaml.safe_load((Path(conf_dir()) / "objective" / "sft.yaml").read_text(encoding="utf-8"))
    before = config.experts[place].get("objective") or {}
    kept = {key: before[key] for key in node.keys() & before.keys() if key != "_target_"}
    experts = {**config.experts, place: {**config.experts[place], "objective": {**node, **kept}}}
    return config.model_copy(update={"experts": experts})


def _candidates(place: str, lessons: StepLessons) -> Any:
    """The stage of the filter's candidates."""
    from r4r.stages.filtering import Filtering

    if not isinstance(lessons.pairs.reasons, Filtering):
        raise ConfigError(
            [
                f"experts.{place}.objective: preferences are learnt from the filter's candidates, accepted against "
                "rejected; take reason_source=filtered, or another objective"
            ]
        )
    if sum(lessons.pairs.reasons.attempts) < 2:
        raise ConfigError(
            [
                f"experts.{place}.objective: preferences need several candidates a pair, and reason_source asks for "
                "one; raise reason_source.max_hinted"
            ]
        )
    return lessons.pairs.reasons
