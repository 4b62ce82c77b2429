"""Raw reviews into a time-ordered split, and the rows of it that are scored."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from r4r.configuration.schema import Config, DatasetConfig, EvaluateConfig, PrepareConfig, WorldConfig
from r4r.data.download import facts
from r4r.data.items import items_of
from r4r.data.prepare import prepare, split_frame
from r4r.data.simulator import build_world
from r4r.data.table1 import table1_text
from r4r.errors import DataError
from r4r.files import fingerprint
from r4r.pipeline.component import Component
from r4r.pipeline.stage import Stage, Unkeyed
from r4r.progress import say
from r4r.rows import ITEMS, REVIEWS
from r4r.scale import PAPER, Scale
from r4r.stages.identity import dataset_identity
from r4r.stages.stage import Job, Work
from r4r.store.artifact import Artifact, write_json, write_table

NOT_READ = {"tau", "history", "pools", "evaluate"}  # settings of a data set that only later stages read


@dataclass(frozen=True)
class Split(Stage):
    """Artifact: `data.parquet` (rows.REVIEWS, all splits), `items.parquet` (rows.ITEMS, the items that have rows), and
    counts with what was dropped and why (`table1.json`; `table1.txt` for people).

    Attributes:
        title: of the data set, in the table for people.
    """

    version: ClassVar[int] = 3

    title: Unkeyed

    @property
    def name(self) -> str:
        return "split"

    def build(self, work: Work) -> dict[str, Any]:
        report = self.write(work.folder)
        write_json(work.folder / "table1.json", report)
        text = table1_text(report, self.title.value)
        (work.folder / "table1.txt").write_text(text + "\n", encoding="utf-8")
        say(text)
        return {"rows": report["table1"], "files": report["files"]}

    @property
    def scale(self) -> Scale:
        """Of the ratings."""
        raise NotImplementedError

    def write(self, folder: Path) -> dict[str, Any]:
        """Write both tables; the report of `r4r.data.prepare.prepare`."""
        raise NotImplementedError


@dataclass(frozen=True)
class WorldSplit(Split):
    """The split of a simulated world."""

    world: WorldConfig
    category: str
    prepare: PrepareConfig

    @property
    def scale(self) -> Scale:
        return PAPER

    def write(self, folder: Path) -> dict[str, Any]:
        rows, report = split_frame(build_world(self.world, self.category).rows, self.prepare)
        write_table(folder / "data.parquet", rows, REVIEWS)
        write_table(folder / "items.parquet", items_of(rows), ITEMS)
        return report


@dataclass(frozen=True)
class RawFiles:
    """A data set's raw files and how they are read: all of its settings but those that only later stages read."""

    dataset: DatasetConfig
    folder: Path

    def identity(self) -> dict[str, Any]:
        return dataset_identity(self.dataset, self.folder)


@dataclass(frozen=True)
class RawSplit(Split):
    """The split of raw review files."""

    version: ClassVar[int] = 5

    raw: RawFiles

    @property
    def scale(self) -> Scale:
        return self.raw.dataset.rating_scale

    def write(self, folder: Path) -> dict[str, Any]:
        layout = self.raw.dataset.layout
        report = prepare(self.raw.dataset, self.raw.folder, folder, Component(layout).object if layout else None)
        (folder / "rows.parquet").replace(folder / "data.parquet")
        return report


def split_stage(config: Config) -> Split:
    """The stage of the split."""
    dataset, title = config.dataset, Unkeyed(config.dataset.name)
    if dataset.source == "simulated":
        return WorldSplit(title, dataset.world, dataset.category, dataset.prepare)
    read = dataset.model_dump(exclude=NOT_READ)
    return RawSplit(title, RawFiles(DatasetConfig.model_validate(read), config.paths.data.expanduser()))


def all_rows(job: Job) -> pd.DataFrame:
    """Every row of the split, by row_id.

    Raises:
        DataError: a raw file is no longer the one that the split was made from.
    """
    split = job.materialize(split_stage(job.config))
    _same_files(job.config, split)
    return split.table(REVIEWS)


def _same_files(config: Config, split: Artifact) -> None:
    """A published file counts by name in the key; fetched a second time, it may have become another one."""
    dataset = config.dataset
    for key, name, sha256 in (
        ("reviews", dataset.reviews, dataset.reviews_sha256),
        ("meta", dataset.meta, dataset.meta_sha256),
    ):
        path = config.paths.data.expanduser() / str(name)
        made_from = split.manifest.get("files", {}).get(key, {}).get("fingerprint")
        if made_from and not sha256 and path.is_file() and made_from != fingerprint(path):
            raise DataError(
                f"{path} (dataset.{key}) is no longer the file that {split.path} was made from. Put that one back; or "
                f"set dataset.{key}_sha256={facts(path)['sha256']} to go on with the one that is there: the split and "
                "all that follows are then built anew"
            )


def evaluated(config: Config, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows to predict: the evaluated split, or a seeded sample of it."""
    return evaluated_rows(config.dataset.evaluate, rows)


def evaluated_rows(evaluate: EvaluateConfig, rows: pd.DataFrame) -> pd.DataFrame:
    """The same, of these settings."""
    chosen = rows[rows["split"] == evaluate.split]
    if evaluate.max_rows is not None and evaluate.max_rows < len(chosen):
        chosen = chosen.sample(evaluate.max_rows, random_state=evaluate.seed).sort_values("row_id")
    return chosen.reset_index(drop=True)


def targets(job: Job) -> pd.DataFrame:
    """The rows to predict (rows.REVIEWS)."""
    return evaluated(job.config, all_rows(job))
