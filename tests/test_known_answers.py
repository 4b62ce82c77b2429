"""A job of the default's kind on the simulated world, held against what was planted (a quarter of an hour)."""

import importlib.util
import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from r4r.checks import validate
from r4r.overrides import conf_dir, preflight
from r4r.run import run

MEASURE = Path(__file__).parents[1] / "experiments" / "known_answers" / "measure.py"
MEASURED = [  # the sizes of the committed result
    *("dataset.world.users=40", "dataset.world.items=20", "dataset.world.reviews_per_user=7"),
    *("dataset.prepare.test_fraction=0.1", "dataset.pools.total=64"),
]


@pytest.mark.slow
def test_what_a_quarter_of_an_hour_learns_of_what_was_planted(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("measure", MEASURE)
    assert spec is not None
    assert spec.loader is not None
    measure = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(measure)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        overrides = preflight([*MEASURED, f"paths.outputs={tmp_path}", "logger=none"])
        run(validate(compose("config", overrides=overrides)), tmp_path)
    answers = measure.measure(json.loads((tmp_path / "result.json").read_text()))
    print(json.dumps(answers, indent=2))
    for kind in ("positive", "negative", "preference"):
        assert answers["teacher"][kind]["precision"] > 0.9
        assert answers["teacher"][kind]["recall"] > 0.8
    # what so few steps do teach; experiments/known_answers says what they do not
    assert answers["summarizer"]["positive"]["precision"] > 2 / 14  # a guess is right about once in fourteen aspects
    assert answers["summarizer"]["positive"]["recall"] > 0.3
    assert 0.5 < answers["filter"]["acceptance_rate"] <= 1
    assert answers["filter"]["error_review"] < answers["filter"]["error_without_reason"]
