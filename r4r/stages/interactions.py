"""Reasons that people corrected on the page of `r4r-serve`, as the Reasoner's training texts."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from r4r.configuration.schema import Config
from r4r.errors import ConfigError, DataError
from r4r.files import conf_dir
from r4r.pipeline.component import Component
from r4r.pipeline.stage import Stage, Unkeyed
from r4r.progress import say
from r4r.reasons.interactions import corrections, read
from r4r.reasons.leak import leaks_rating
from r4r.rows import REASONS, REVIEWS
from r4r.scale import Scale
from r4r.stages.reasons import ReasonSource
from r4r.stages.split import split_stage
from r4r.stages.stage import Work
from r4r.store.artifact import write_table


class Interactions(ReasonSource):
    """The corrected reasons of training reviews; other pairs have theirs from another source.

    Args:
        file: `interactions.jsonl`, in the schema of r4r.reasons.interactions.
        rest: option of conf/reason_source for pairs that nobody corrected; none: there are no other pairs.
    """

    def __init__(self, name: str = "interactions", file: str = "interactions.jsonl", rest: str = "filtered"):
        super().__init__(name)
        self.file, self.rest = file, rest

    def stage(self, config: Config, node: Mapping[str, Any]) -> "CorrectedReasons":
        path = Path(self.file).expanduser().absolute()
        if not path.is_file():
            raise ConfigError([f"reason_source.file={self.file}: there is no such file; r4r-serve writes one"])
        return CorrectedReasons(
            split_stage(config), self._rest(config), config.dataset.rating_scale, _digest(path), Unkeyed(path)
        )

    def _rest(self, config: Config) -> Any:
        others = {path.stem: path for path in (conf_dir() / "reason_source").glob("*.yaml") if path.stem != self.name}
        if self.rest not in others:
            raise ConfigError([f"reason_source.rest={self.rest}: must be one of {', '.join(sorted(others))}"])
        node = yaml.safe_load(others[self.rest].read_text(encoding="utf-8"))
        return Component(node).object.stage(config, node)


@dataclass(frozen=True)
class CorrectedReasons(Stage):
    """Artifact: `data.parquet` (rows.REASONS): corrected reasons in place of, and beside, those of another source.

    Attributes:
        rest: the stage of the other source's reasons; None: there is none.
        content: digest of the file.
    """

    split: Any
    rest: Any
    scale: Scale
    content: str
    file: Unkeyed

    @property
    def name(self) -> str:
        return "reasons"

    def build(self, work: Work) -> dict[str, Any]:
        path: Path = self.file.value
        if not path.is_file() or _digest(path) != self.content:
            raise DataError(f"{path}: has changed since this job was started; start it again")
        found, dropped = read(path.read_text(encoding="utf-8", errors="replace"), str(path))
        said = corrections(found, dropped)
        rows = work.of(self.split).table(REVIEWS)
        known = {
            pair: place
            for place, pair in enumerate(zip(rows["user_id"], rows["item_id"], rows["timestamp"], strict=True))
        }
        corrected: dict[int, str] = {}
        for pair, reason in said.items():
            row = rows.iloc[known[pair]] if pair in known else None
            if row is None:
                dropped["no review of the split"] += 1
            elif row["split"] != "train":
                dropped[f"a review of the {row['split']} split"] += 1
            elif leaks_rating(reason, [row["title"]], self.scale):
                dropped["gives away the rating"] += 1
            else:
                corrected[int(row["row_id"])] = reason
        others = {}
        if self.rest is not None:
            table = work.of(self.rest).table(REASONS)
            others = dict(zip(table["row_id"].tolist(), table["reason"], strict=True))
        reasons = pd.DataFrame(sorted((others | corrected).items()), columns=list(REASONS))
        causes = {cause: count for cause, count in sorted(dropped.items()) if count}
        say(
            f"  {len(corrected)} corrected reasons of {len(found)} interactions, beside {len(reasons) - len(corrected)}"
        )
        if not corrected:
            raise DataError(f"{path}: corrects the reason of no training review; left out: {causes}")
        write_table(work.folder / "data.parquet", reasons, REASONS)
        return {"pairs": len(reasons), "kept": len(reasons), "corrected": len(corrected), "dropped": causes}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
