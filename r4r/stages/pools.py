"""Which train rows teach which expert."""

from dataclasses import dataclass
from typing import Any

from r4r.configuration.schema import Config, PoolsConfig
from r4r.data.history import HistoryIndex
from r4r.data.pools import make_pools
from r4r.pipeline.stage import Stage
from r4r.progress import say
from r4r.rows import POOLS, REVIEWS
from r4r.stages.cases import rows_of
from r4r.stages.split import split_stage
from r4r.stages.stage import Work
from r4r.store.artifact import write_json, write_table


@dataclass(frozen=True)
class Pools(Stage):
    """Artifact: `data.parquet` (rows.POOLS), disjoint by row; `report.json`, counts with what was left out and why."""

    split: Any
    total: int
    reward_share: float
    min_history_total: int
    source: str
    seed: int

    @property
    def name(self) -> str:
        return "pools"

    def build(self, work: Work) -> dict[str, Any]:
        rows = work.of(self.split).table(REVIEWS)
        sizes = PoolsConfig(total=self.total, reward_share=self.reward_share, min_history_total=self.min_history_total)
        pools, report = make_pools(rows, HistoryIndex(rows_of(self.source, rows)), sizes, self.seed)
        write_table(work.folder / "data.parquet", pools, POOLS)
        write_json(work.folder / "report.json", report)
        counts = pools["pool"].value_counts()
        say(f"  pools: reward {counts['reward']}, experts {counts['experts']}")
        return {"pools": report}


def pools_stage(config: Config) -> Pools:
    """The stage that draws the pools."""
    chosen = config.dataset.pools
    return Pools(
        split_stage(config),
        chosen.total,
        chosen.reward_share,
        chosen.min_history_total,
        config.dataset.history.source,
        config.seed,
    )


def expert_pairs(config: Config) -> int:
    """How many pairs the experts pool holds, where the data set has enough: for plans."""
    return round(config.dataset.pools.total * (1 - config.dataset.pools.reward_share))
