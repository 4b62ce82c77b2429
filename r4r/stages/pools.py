"""Which train rows teach which expert."""

from typing import Any

from r4r.config import Config
from r4r.data.history import HistoryIndex
from r4r.data.pools import make_pools
from r4r.progress import say
from r4r.rows import POOLS, REVIEWS
from r4r.stages.cases import history_rows
from r4r.stages.split import split_stage
from r4r.stages.stage import Stage, Work
from r4r.store.artifact import write_json, write_table

VERSION = 1


def pools_stage(config: Config) -> Stage:
    """Artifact: `data.parquet` (rows.POOLS), disjoint by row."""
    identity = {
        "pools": config.dataset.pools.model_dump(mode="json", exclude={"summaries"}),
        "history_source": config.dataset.history.source,
        "seed": config.seed,
    }
    return Stage("pools", VERSION, identity, {"split": split_stage(config)}, _build)


def _build(work: Work) -> dict[str, Any]:
    config = work.job.config
    rows = work.inputs["split"].table(REVIEWS)
    index = HistoryIndex(history_rows(config.dataset, rows))
    pools, report = make_pools(rows, index, config.dataset.pools, config.seed)
    write_table(work.folder / "data.parquet", pools, POOLS)
    write_json(work.folder / "report.json", report)
    counts = pools["pool"].value_counts()
    say(f"  pools: reward {counts['reward']}, experts {counts['experts']}")
    return {"pools": report}


def expert_pairs(config: Config) -> int:
    """How many pairs the experts pool holds, where the data set has enough: for plans."""
    return round(config.dataset.pools.total * (1 - config.dataset.pools.reward_share))
