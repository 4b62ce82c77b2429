"""Which rows each of the paper's tables and figures has, and which jobs stand for them."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from omegaconf import OmegaConf

from r4r.files import conf_dir
from r4r.report.records import Run

SMOKE = "smoke"  # the preset that tries the pipeline out; its numbers mean nothing


@dataclass(frozen=True)
class Setting:
    """What a job's configuration must be; None takes any."""

    method: str
    strategy: str | None = None
    source: str | None = None
    control: str | None = "none"

    def fits(self, run: Run) -> bool:
        return (
            run.method == self.method
            and self.strategy in (None, run.strategy)
            and self.source in (None, run.source)
            and self.control in (None, run.control)
            and run.config.get("target", "result") == "result"
        )

    def overrides(self, swept: Collection[str]) -> str:
        """As on the command line of a preset with these axes: what it sweeps over, and what is not the default."""
        parts = {"method": self.method, "strategy": self.strategy, "reason_source": self.source}
        parts["control"] = self.control
        default = {"method": "reason4rec", "strategy": "multistep", "reason_source": "filtered", "control": "none"}
        chosen = {key: value for key, value in parts.items() if value and (key in swept or value != default[key])}
        return " ".join(f"{key}={value}" for key, value in chosen.items())


@dataclass(frozen=True)
class Row:
    """A row of a table, or a point of a figure.

    Attributes:
        name: as in the report.
        settings: any of these is a job of this row.
        label: the row's label in a record; None: the first, which is the method's own.
        published: its name in `paper.yaml`, where that is another.
        own: config groups that the row chooses for itself, whatever the others have.
    """

    name: str
    settings: tuple[Setting, ...]
    label: str | None = None
    published: str | None = None
    own: tuple[str, ...] = ()

    @property
    def paper(self) -> str:
        return self.published or self.name

    def fits(self, run: Run) -> bool:
        """Whether a job is of this row by its method, strategy and reason source, whatever its other settings."""
        return self.setting(run) is not None

    def setting(self, run: Run) -> Setting | None:
        """The setting of this row that a job has."""
        return next((setting for setting in self.settings if setting.fits(run)), None)

    def reference(self, run: Run) -> str | None:
        """The name under `references` by which a job of another method scored this row beside it, on all its rows."""
        if self.label is None or run.record.get("excluded"):
            return None
        nodes = run.config.get("references") or {}
        return next((name for name, node in nodes.items() if node.get("name") == self.settings[0].method), None)

    @property
    def exists(self) -> bool:
        return (conf_dir() / "method" / f"{self.settings[0].method}.yaml").exists()


@dataclass(frozen=True)
class Table:
    """A table or figure, of rating errors but for `REASONS`, `COST` and `CASES`.

    Attributes:
        name: as on the command line, and of the preset.
        title: as printed.
        headline: the row that the others are compared with; empty: none is, and the paper prints no numbers.
        beside: whether scores of reasons and costs stand in it too.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    headline: str
    beside: bool = False

    @property
    def command(self) -> str:
        return command(self.name)


def _row(name: str, method: str, label: str | None = None, published: str | None = None) -> Row:
    return Row(name, (Setting(method),), label, published)


def _ours(name: str, strategy: str = "multistep", source: str = "filtered") -> Row:
    return Row(name, (Setting("reason4rec", strategy, source),))


def _controlled(name: str, control: str) -> Row:
    return Row(name, (Setting("reason4rec", "multistep", "filtered", control),))


def _without_reason(name: str) -> Row:
    """The predictor without an analysis section: one run, by two names."""
    settings = Setting("reason4rec", "multistep", "none"), Setting("reason4rec", "without_step2")
    return Row(name, settings)


_MEANS = ("Global mean", "User mean", "Item mean", "User+item bias")
TABLES = {
    table.name: table
    for table in (
        Table(
            "table2",
            "Table 2: rating prediction",
            (
                *(_row(label, "means", label) for label in _MEANS),
                _row("MF", "mf", "MF"),
                _row("DeepCoNN", "deepconn", "DeepCoNN"),
                _row("NARRE", "narre", "NARRE"),
                _row("DAML", "daml", "DAML"),
                Row("LLM few-shot", (Setting("fewshot"),), published="GPT-4o", own=("teacher",)),
                _row("Rec-SAVER", "rec_saver", "Rec-SAVER"),  # as its paper decodes: the rating that the answer states
                _row("Rec-SAVER (logits)", "rec_saver", "Rec-SAVER (logits)"),
                _row("EXP3RT", "exp3rt"),
                _ours("Reason4Rec"),
            ),
            "Reason4Rec",
        ),
        Table(
            "table4",
            "Table 4: what the reasoner learns from",
            (
                _without_reason("Without reason"),
                _ours("Review-guided", source="review"),
                _ours("Review-inferred", source="review_inferred"),
                _ours("History-inferred", source="history"),
                _ours("Reason4Rec"),
            ),
            "Reason4Rec",
        ),
        Table(
            "table5",
            "Table 5: the reward model, given texts of known closeness to the review",
            tuple(
                _row(label, "reward_check", label)
                for label in (
                    "Without reason",
                    "Review-guided",
                    "Review-inferred",
                    "Hint-inferred",
                    "History-inferred",
                )
            ),
            "Review-guided",
        ),
        Table(
            "figure3",
            "Figure 3: Reason4Rec without each of its steps",
            (
                _ours("Without step 1", "without_step1"),
                _without_reason("Without step 2"),
                _ours("Without step 3", "without_step3"),
                _ours("Reason4Rec"),
            ),
            "Reason4Rec",
        ),
        Table(
            "figure4",
            "Figure 4: one step or several",
            (_ours("One-step", "onestep"), _ours("Chain of thought", "cot"), _ours("Multi-step")),
            "Multi-step",
        ),
        Table(
            "controls",
            "Controls: what a reason is worth",
            (
                _controlled("Reason4Rec", "none"),
                _controlled("No reason, same pairs", "no_reason"),
                _controlled("Shuffled reasons", "shuffled_reasons"),
                _controlled("Verdict alone", "verdict_alone"),
                _controlled("Aspects alone", "aspects_alone"),
                _controlled("Shuffled histories", "shuffled_histories"),
                _controlled("Oracle's verdict", "oracle_verdict"),
                _controlled("Oracle's reason", "oracle_reason"),
            ),
            "Reason4Rec",
        ),
        Table(
            "objectives",
            "Objectives: what the reasoner learns by",
            (
                _without_reason("Without reason"),
                _ours("Reason4Rec"),
                _ours("DPO", "dpo"),
                _ours("Best of n", "best_of_n"),
                _ours("GRPO", "grpo"),
                _row("RecZero", "reczero"),
                _row("RecOne", "recone"),
            ),
            "Reason4Rec",
            beside=True,
        ),
    )
}
REASONS = Table(  # of scores of reasons, not of rating errors: see reason_table
    "table3",
    "Table 3: how well the reasons match the reviews",
    (_row("Rec-SAVER", "rec_saver"), _row("EXP3RT", "exp3rt"), _ours("Reason4Rec")),
    "Reason4Rec",
)
CASES = Table(  # of what they say of single reviews: see cases
    "figure5",
    "Figure 5: what each method says of the same reviews",
    (_ours("Reason4Rec"), _row("EXP3RT", "exp3rt"), _row("Rec-SAVER", "rec_saver")),
    "",
)
ALSO = (_ours("One-step", "onestep"), _ours("Chain of thought", "cot"))  # rows of `CASES` where there are records
COST = Table(  # of seconds and tokens: see timing_table
    "table6",
    "Table 6: what a prediction costs",
    (_ours("Reason4Rec"), _ours("One-step", "onestep"), _row("Rec-SAVER", "rec_saver"), _row("EXP3RT", "exp3rt")),
    "Reason4Rec",
)
NAMES = (
    *("table1", "table2", REASONS.name, "table4", "table5", COST.name),
    *(name for name in TABLES if name.startswith("figure")),
    CASES.name,
    "controls",
    "objectives",
)


@cache
def axes(name: str) -> dict[str, tuple[str, ...]]:
    """The sweep of a preset: axis -> its values, as text."""
    preset = OmegaConf.load(conf_dir() / "experiment" / f"{name}.yaml")
    params = OmegaConf.select(preset, "hydra.sweeper.params")
    return {str(key): tuple(part.strip() for part in str(value).split(",")) for key, value in params.items()}


def command(name: str) -> str:
    """The command line that makes a table's records."""
    return f"r4r -m experiment={name}"
