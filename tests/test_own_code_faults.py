"""Classes of a user's own that do not do what their place asks: a sentence that names them, never another's result."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from r4r.errors import ConfigError
from r4r.experts.summarizer import Summarizer
from r4r.lm.base import Lora

HEAD = """
from dataclasses import dataclass
from pathlib import Path
import numpy as np
import pandas as pd
from r4r.data.readers import RawReader
from r4r.methods import point_predictions
from r4r.methods.baseline import Baseline
from r4r.methods.means import Means
from r4r.metrics.accuracy import Accuracy
from r4r.rows import PREDICTIONS
"""
BASELINE = """
class Mine(Baseline):
    def __init__(self, name="mine"):
        self.name = name
        {init}

    def predictions(self, given):
        values = np.full(len(given.wanted), 3.0)
        {body}
        return {made}
"""
RATED = 'point_predictions(given.wanted["row_id"], "Mine", values, given.scale), '
METRIC = """
class Mine(Accuracy):
    {head}

    def of(self, truth, predicted, scale):
        {body}
"""
READER = """
class Mine(RawReader):
    def records(self, path):
        {body}
"""
CONF = {
    "method/mine.yaml": "_target_: faulty.Mine\nname: mine\n",
    "dataset/mine.yaml": (
        "name: mine\nsource: custom\ncategory: Place\nreviews: mine.txt\nlayout: {_target_: faulty.Mine}\n"
    ),
}
SMALL = ["dataset.world.users=20", "dataset.world.items=10"]
Run = Callable[..., int]


@pytest.fixture
def run(r4r: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A job with a module `faulty`, of the given text."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, content in CONF.items():
        (tmp_path / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / name).write_text(content)

    def run(text: str, *overrides: str) -> int:
        monkeypatch.delitem(sys.modules, "faulty", raising=False)
        (tmp_path / "faulty.py").write_text(HEAD + text)
        own = ["--config-dir", str(tmp_path / "conf"), "plugins=[faulty]", f"paths.outputs={tmp_path / 'outputs'}"]
        return r4r(*own, *overrides, "logger=none", "~references")

    return run


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"made": "pd.DataFrame({name: [] for name in PREDICTIONS}), {}"}, "predicts none of the 44"),
        ({"body": "values = ['good'] * len(values)"}, "faulty.Mine.predictions: Mine: ratings that are no numbers"),
        ({"made": RATED + "{'dollars': 'much'}"}, "returned dollars='much'; costs are numbers"),
        ({"made": RATED + "{'wall_s': 3}"}, "returned a fact named wall_s, which the manifest has of its own"),
        ({"made": RATED + "{'excluded': [3]}"}, "returned excluded=[3]; it should map each cause to a list of row_ids"),
        ({"init": "self.file = Path('x')"}, "predict/mine.method.file: a PosixPath has no identity"),
        ({"init": "self.n = float('nan')"}, "predict/mine.method.n: nan cannot be part of an artifact's key"),
        ({"init": "raise ValueError('dim must be even')"}, "method: dim must be even"),
    ],
)
def test_a_baseline(run: Run, parts: dict[str, str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = BASELINE.format(**{"init": "pass", "body": "pass", "made": RATED + "{}"} | parts)
    assert run(text, "method=mine", *SMALL) in (1, 2)
    shown = capsys.readouterr().err
    assert told in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("head", "body", "told"),
    [
        ("title = np.float64(3)", "pass", "that has a title (text) and higher_is_better"),
        ("higher_is_better = 'yes'", "pass", "that has a title (text) and higher_is_better"),
        ("pass", "return (one for one in truth)", "metrics.ratings.accuracy: wants a finite value for each of 44 rows"),
        ("pass", "return ['near'] * len(truth)", "metrics.ratings.accuracy: wants a finite value for each of 44 rows"),
    ],
)
def test_a_metric(run: Run, head: str, body: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    mounted = ["+rating_metric@metrics.ratings.accuracy=accuracy", "metrics.ratings.accuracy._target_=faulty.Mine"]
    assert run(METRIC.format(head=head, body=body), "method=means", *mounted, *SMALL) in (1, 2)
    shown = capsys.readouterr().err
    assert told in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("yield {'user_id': 'u'}", "faulty.Mine.records gave {'user_id': 'u'}; it should yield pairs"),
        ("yield 1, ['u']", "faulty.Mine.records gave (1, ['u']); it should yield pairs"),
        ("pass", "faulty.Mine.records returned None; it should yield pairs"),
    ],
)
def test_a_reader(run: Run, tmp_path: Path, body: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("x")
    assert run(READER.format(body=body), "dataset=mine", f"paths.data={tmp_path}", "method=means", "target=split") == 1
    shown = capsys.readouterr().err
    assert told in shown
    assert "Traceback" not in shown


def test_the_fields_of_a_class_with_slots_are_in_its_key(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = BASELINE.format(init="pass", body="values = values * 0 + self.value", made=RATED + "{}")
    text = text.replace("class Mine", "@dataclass(slots=True)\nclass Mine")
    init = 'def __init__(self, name="mine"):\n        self.name = name\n        pass'
    text = text.replace(init, 'name: str = "mine"\n    value: float = 3.0')
    means = []
    for value in (2.0, 4.0):
        assert run(text, "method=mine", f"+method.value={value}", *SMALL) == 0
        record = json.loads(Path(capsys.readouterr().out.strip().splitlines()[-1]).read_text())
        means.append(record["metrics"][0]["mae"])
    assert means[0] != means[1]


def test_a_prompt_that_no_key_holds_is_not_rendered(tmp_path: Path) -> None:
    class Mine(Summarizer):
        """Reads a file that it does not list."""

        def prompt(self, category: str, title: str, rating: str, review: str) -> str:
            return self.render(str(tmp_path / "mine.txt"))

    (tmp_path / "mine.txt").write_text("Summarize.")
    made = Mine(Lora(r=1, alpha=1, dropout=0.0), 1e-3, 1, 1, 0, 8)
    with pytest.raises(
        ConfigError, match=r"Mine renders .*mine\.txt, whose text no key holds: list it in Mine\.templates"
    ):
        made.prompt("Music", "x", "5", "Good.")


def test_a_plugin_named_as_a_module_of_pythons_library_is_refused(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("", "plugins=[profile]", "method=means") == 2
    assert "profile is the name of a module of Python's own library; rename yours" in capsys.readouterr().err
