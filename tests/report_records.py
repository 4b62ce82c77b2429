"""Records as jobs leave them, made without running any: their configurations are composed like a job's."""

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from omegaconf import OmegaConf
from sealed import seal

from r4r.configuration.composing import compose, make_loader
from r4r.configuration.schema import Config
from r4r.report.records import Run

LOADER = make_loader()
Scores = dict[str, tuple[float, float]]


@cache
def _composed(*options: str) -> tuple[dict[str, Any], dict[str, Any]]:
    cfg = compose(LOADER, "config", list(options))
    chosen = {str(group): option for group, option in cfg.hydra.runtime.choices.items()}
    own = OmegaConf.create({key: cfg._get_node(key) for key in cfg if key != "hydra"})
    values: Any = OmegaConf.to_container(own, resolve=True)
    values["experts"] = {name: node for name, node in values["experts"].items() if "_target_" in node}
    return values, chosen


def configured(*overrides: str, seed: int = 42) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration of a job with these overrides, as its record holds it, and its choices."""
    settings = [override for override in overrides if "." in override.partition("=")[0].partition("@")[0]]
    values, chosen = copy.deepcopy(_composed(*(o for o in overrides if o not in settings), "seed=42"))
    cfg = OmegaConf.create(values)
    for override in settings:  # by hand, since to compose takes a third of a second
        key, _, value = override.lstrip("+").partition("=")
        OmegaConf.update(cfg, key, yaml.safe_load(value), force_add=True)
    config = Config.model_validate(OmegaConf.to_container(cfg)).model_dump(mode="json")
    return config | {"seed": seed}, dict(chosen)


def record(
    scores: Scores | None = None,
    *,
    method: str = "reason4rec",
    strategy: str = "multistep",
    source: str = "filtered",
    seed: int = 42,
    dataset: str = "simulated",
    n: int = 100,
    p: dict[str, float] | None = None,
    split: str = "split0",
    started: str = "2026-01-01T00:00:00+00:00",
    given: tuple[str, ...] = (),
    **more: Any,
) -> dict[str, Any]:
    """A record with these (MAE, RMSE) by label, the first being the method's own; without scores, a failed one."""
    config, choices = configured(
        f"method={method}", f"strategy={strategy}", f"reason_source={source}", f"dataset={dataset}", *given, seed=seed
    )
    own = sorted({"means": ["dataset"], "mf": ["dataset"], "fewshot": ["dataset", "teacher"]}.get(method, [])) or None
    made: dict[str, Any] = {
        "format": 1,
        "status": "ok" if scores else "failed",
        "error": None if scores else {"kind": "ModelError", "message": "out of memory"},
        "experiment": None,
        "method": config["method"]["name"],
        "dataset": dataset,
        "seed": seed,
        "started": started,
        "overrides": list(given),
        "choices": choices,
        "reads": {"method": own, "references": {"means": ["dataset"], "mf": ["dataset"]}},
        "config": config | {"paths": {"artifacts": "nowhere"}},
    }
    if scores:
        first = next(iter(scores))
        made |= {
            "evaluated": "test",
            "excluded": {},
            "metrics": [
                {"label": k, "decoding": "mean", "n": n, "mae": a, "mae_se": 0.01, "rmse": b, "rmse_se": 0.02}
                for k, (a, b) in scores.items()
            ],
            "comparisons": [
                {"label": k, "against": first, "mae": {"p": value}, "rmse": {"p": value}}
                for k, value in (p or {}).items()
            ],
            "artifacts": {
                "split": split,
                "predict/test": f"{method}{strategy}{source}{seed}{given}{sorted(scores.items())}".replace("/", "-"),
            },
        }
    return made | more


def with_near(made: dict[str, Any], near: float) -> dict[str, Any]:
    """The record of a job that had a metric of ratings of the user's own, of which more is better."""
    scores = [score | {"near": near, "near_se": 0.1} for score in made["metrics"]]
    about = {"near": {"title": "near hits", "higher_is_better": True}}
    return made | {"metrics": scores, "rating_metrics": about}


def write(folder: Path, *records: dict[str, Any]) -> Path:
    for number, made in enumerate(records):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "result.json").write_text(json.dumps(made), encoding="utf-8")
    return folder


def runs(*records: dict[str, Any]) -> list[Run]:
    return [Run(Path(f"{number}/result.json"), made) for number, made in enumerate(records)]


def world_of_records(folder: Path, seeds: int, noise: dict[str, float], apart: bool) -> list[dict[str, Any]]:
    """Records and predictions of Table 4's rows.

    Args:
        noise: reason source -> standard deviation of its errors.
        apart: a split of its own for each seed.
    """
    made = []
    for seed in range(seeds):
        split = f"split{seed * apart}"
        generator = np.random.default_rng(seed * apart)
        truth = generator.integers(1, 6, 80).astype(float)
        rows = pd.DataFrame({"row_id": np.arange(80), "rating": truth, "timestamp": 0, "split": "test"})
        keep(folder, "split", split, rows.assign(**dict.fromkeys(("user_id", "item_id", "title", "review"), "x")))
        for source, spread in noise.items():
            drawn = np.random.default_rng(100 + seed + 1000 * len(source)).normal(0, 1, 80)
            values = truth + spread * drawn
            table = pd.DataFrame({"row_id": rows["row_id"], "label": "Reason4Rec", "mean": values})
            keep(folder, "predict/test", f"{source}{seed}", table.assign(median=values, mode=values))
            error = values - truth
            scores = {"Reason4Rec": (float(np.abs(error).mean()), float(np.sqrt((error**2).mean())))}
            one = record(scores, source=source, seed=seed, n=80, split=split)
            one["artifacts"]["predict/test"] = f"{source}{seed}"
            one["config"]["paths"]["artifacts"] = str(folder)
            made.append(one)
    return made


def keep(folder: Path, stage: str, key: str, table: pd.DataFrame) -> None:
    (folder / stage / key).mkdir(parents=True, exist_ok=True)
    table.to_parquet(folder / stage / key / "data.parquet", index=False)
    seal(folder, stage, key)
