"""The default job on the simulated world, held against what was planted (minutes: it trains the real small model)."""

import importlib.util
import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from r4r.checks import validate
from r4r.overrides import conf_dir, preflight
from r4r.run import run

MEASURE = Path(__file__).parents[1] / "experiments" / "known_answers" / "measure.py"


@pytest.mark.slow
def test_the_default_job_learns_what_was_planted(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("measure", MEASURE)
    assert spec is not None
    assert spec.loader is not None
    measure = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(measure)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        overrides = preflight([f"paths.outputs={tmp_path}", "logger=none"])
        run(validate(compose("config", overrides=overrides)), tmp_path)
    answers = measure.measure(json.loads((tmp_path / "result.json").read_text()))
    print(json.dumps(answers, indent=2))
    assert answers["teacher"]["negative"]["precision"] > 0.9
    for kind in ("positive", "negative"):
        assert answers["summarizer"][kind]["precision"] > 0.5
        assert answers["summarizer"][kind]["recall"] > 0.4
    assert 0.2 < answers["filter"]["acceptance_rate"] <= 1
    assert answers["filter"]["error_accepted"] < answers["filter"]["error_rejected"]
    assert answers["filter"]["error_review"] < answers["filter"]["error_without_reason"]
    assert answers["scores"]["Reason4Rec"][0] < answers["scores"]["Global mean"][0]
