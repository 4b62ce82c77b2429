"""Figure 5: the page of cases, whatever their texts hold and whichever records and artifacts are missing."""

import base64
import csv
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_stage import plain_stage
from report_records import configured
from sealed import seal

from r4r import run
from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.errors import DataError
from r4r.loggers import case_tables
from r4r.report import case_page, cli
from r4r.report.case_page import Html, element
from r4r.stages.split import split_stage, targets
from r4r.stages.stage import Job, Work
from r4r.store.artifact import Store

LABELS = {"reason4rec": "Reason4Rec", "exp3rt": "EXP3RT", "rec_saver": "Rec-SAVER"}
MEANS = {"reason4rec": 4.0, "exp3rt": 3.0, "rec_saver": 2.5}
HOSTILE = (
    "<script>alert(1)</script>",
    "</script></section></article><!-- ",
    "\"><img src=x onerror='alert(1)'>",
    "' onmouseover='alert(1)' x=\"",
    "&lt;b&gt; &amp;amp; &#60; AT&T &copy",
    "\u202eright to left\u202c \u2067\u05d0\u05d1",
    "null",
    "NaN",
    "{{7*7}} ${x} %s \\u003cb\\u003e ]]>",
    "</style><style>*{display:none}</style>",
    "<meta http-equiv=refresh content=0> <base href=//x>",
    "javascript:alert(1)\u2028line",
)
Words = Callable[[str], str]  # where a text stands -> the text


def plain(where: str) -> str:
    return f"text of {where}"


def hostile(where: str) -> str:
    """All of it, in an order of its own."""
    turn = sum(map(ord, where)) % len(HOSTILE)
    return f"{where} " + " ".join(HOSTILE[turn:] + HOSTILE[:turn])


class World:
    """Records and artifacts of three methods on one split: rows 0 to 5 are train, 6 to 13 are scored."""

    def __init__(self, folder: Path, words: Words = plain, dataset: str = "simulated"):
        self.folder, self.words, self.dataset = folder, words, dataset
        self.rows = pd.DataFrame(
            {
                "row_id": range(14),
                "user_id": [words(f"user {row % 2}") for row in range(14)],
                "item_id": [words(f"item {row % 3}") for row in range(14)],
                "title": [words(f"title {row % 3}") for row in range(14)],
                "rating": [float(row % 5 + 1) for row in range(14)],
                "review": [words(f"review {row}") for row in range(14)],
                "timestamp": [86_400 * row for row in range(14)],
                "split": ["train"] * 6 + ["test"] * 8,
            }
        )
        self.keep("split", "split0", self.rows)
        summaries = {"row_id": range(6), "summary": [words(f"summary {row}") for row in range(6)]}
        self.keep("summaries", "summaries0", pd.DataFrame(summaries))

    def keep(self, stage: str, key: str, table: pd.DataFrame, name: str = "data.parquet") -> None:
        folder = self.folder / "artifacts" / stage / key
        folder.mkdir(parents=True, exist_ok=True)
        table.to_parquet(folder / name, index=False)
        seal(self.folder / "artifacts", stage, key)

    def job(self, method: str, strategy: str = "multistep", seed: int = 42, status: str = "ok", **more: Any) -> None:
        """A record, and its predictions: those of the first scored row are the furthest apart."""
        label = LABELS[method] if strategy == "multistep" else "One-step"
        key = f"{method}-{strategy}-{seed}"
        test = self.rows[self.rows["split"] == "test"]
        means = [3 + (MEANS[method] - 3) * (20 - row) / 20 for row in test["row_id"]]
        table = pd.DataFrame({"row_id": test["row_id"], "label": label, "mean": means, "median": 3.0, "mode": 4.0})
        reasons = [self.words(f"reason {key} {row}") for row in test["row_id"]]
        self.keep("predict/test", key, table)
        self.keep("predict/test", key, table.assign(reason=reasons), "detail.parquet")
        artifacts = {"split": "split0", "predict/test": key}
        if method == "reason4rec":
            artifacts["summaries"] = "summaries0"
        config, choices = configured(f"method={method}", f"strategy={strategy}", seed=seed)
        config["dataset"]["name"] = self.dataset
        config["dataset"]["history"] |= {"prompt": 2, "source": "train", "review_tokens": 512, "raw_tokens": 96}
        config["paths"]["artifacts"] = str(self.folder / "artifacts")
        made = {
            "status": status,
            "error": None if status == "ok" else {"kind": "ModelError", "message": self.words("failure")},
            "method": method,
            "dataset": self.dataset,
            "seed": seed,
            "started": "2026-01-01T00:00:00+00:00",
            "choices": choices,
            "config": config,
        }
        if status == "ok":
            score = {"decoding": "mean", "n": 8, "mae": 1.0, "mae_se": 0.1, "rmse": 1.0, "rmse_se": 0.1}
            made |= {"evaluated": "test", "excluded": {}, "metrics": [{"label": label, **score}]}
            made |= {"artifacts": artifacts}
        path = self.folder / "jobs" / key / "result.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(made | more), encoding="utf-8")

    def report(self, *argv: str) -> "Page":
        out = self.folder / "report"
        assert cli.report(["figure5", "--records", str(self.folder / "jobs"), "--out", str(out), *argv]) == 0
        return Page((out / "figure5.html").read_text(encoding="utf-8"))

    @property
    def markdown(self) -> str:
        return (self.folder / "report" / "figure5.md").read_text(encoding="utf-8")


class Page(HTMLParser):
    """What a reader of HTML makes of a page.

    Attributes:
        shape: every tag as it opens or closes, with the names of its attributes.
        attributes: (tag, name, value).
        texts: (names of the open elements, text) of each run of text.
    """

    def __init__(self, text: str):
        super().__init__()
        self.source = text
        self.shape: list[tuple[str, ...]] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.comments: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shape.append((tag, *(name for name, _ in attrs)))
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in ("meta", "input"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        self.shape.append((f"/{tag}",))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((tuple(self._open), data))

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def inside(self, tag: str) -> list[str]:
        return [text for path, text in self.texts if path and path[-1] == tag]

    @property
    def cases(self) -> list[int]:
        return [int(str(value).rpartition("-")[2]) for tag, name, value in self.attributes if (tag, name) == CASE]

    @property
    def shown(self) -> str:
        return "\n".join(text for path, text in self.texts if path[-1] not in ("script", "style"))


CASE = ("article", "id")


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    for method in LABELS:
        made.job(method)
    return made


# what the page holds


def test_each_case_has_its_review_its_reasons_and_its_histories(world: World) -> None:
    page = world.report("--rows", "9")
    assert page.cases == [9]
    paragraphs = page.inside("p")
    assert "text of review 9" in paragraphs
    for method in LABELS:
        assert f"text of reason {method}-multistep-42 9" in paragraphs
    assert [h for h in page.inside("h3") if h in LABELS.values()] == list(LABELS.values())
    assert "3.55, true 5, off by 1.45 (median 3, mode 4)" in page.shown
    told = page.inside("summary")
    assert told[0] == "User's history: 2 of 3 earlier reviews, mean rating 2.33"  # 1, 3, 5: rated 2, 4, 1
    past = page.source.split("User&#x27;s history")[1].split("Item&#x27;s history")[0]
    assert re.findall(r"text of (\w+ \d+)</p>", past) == ["summary 3", "review 3", "summary 5", "review 5"]
    assert "| 9: text of title 0 | 5 | 3.55 | 3.00 | 2.73 | 0.82 |" in world.markdown
    with (world.folder / "report" / "figure5.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["status"]) for row in rows] == [(label, "ok") for label in LABELS.values()]
    assert rows[0]["reason"] == "text of reason reason4rec-multistep-42 9"


def test_the_choice_of_cases(world: World) -> None:
    chosen = world.report("--cases", "4").cases
    assert chosen[:2] == [6, 7]  # the widest apart
    assert chosen[2:] == sorted(set(chosen[2:]) - {6, 7})
    assert world.report("--cases", "4").cases == chosen
    assert sorted(world.report().cases) == list(range(6, 14))
    assert world.report("--rows", "12,7,12").cases == [12, 7]


def test_a_row_that_was_not_scored_is_an_error_that_says_which_were(world: World) -> None:
    with pytest.raises(DataError, match=r"--rows 3,99: not among the scored rows by row_id \(simulated: 8, from 6 to"):
        world.report("--rows", "7,3,99")


def test_one_step_stands_beside_where_it_was_run(world: World) -> None:
    assert "One-step" not in world.report().shown
    world.job("reason4rec", "onestep")
    page = world.report()
    assert "One-step" in page.inside("h3")
    assert "text of reason reason4rec-onestep-42 6" in page.shown


def test_the_seed_that_most_methods_have(world: World) -> None:
    world.job("reason4rec", seed=7)
    assert "reason4rec-multistep-42 " in world.report().shown
    for method in ("exp3rt", "rec_saver"):
        shutil.rmtree(world.folder / "jobs" / f"{method}-multistep-42")
    world.job("exp3rt", seed=7)
    page = world.report()
    assert "reason4rec-multistep-7 " in page.shown
    assert "Nothing to show: no record for seed 7" in page.shown


def test_each_case_leads_to_where_it_is_served(world: World) -> None:
    assert "edit its reason" not in world.report("--rows", "6").shown
    page = world.report("--rows", "6,7", "--serve-url", "http://localhost:8765/")
    links = [value for _, name, value in page.attributes if name == "href"]
    assert links[0] == f"http://localhost:8765/#/text%20of%20user%200/text%20of%20item%200?at={86_400 * 6}"
    assert len(links) == 2


# what is missing is named


def test_a_failed_job_and_one_that_was_never_run_are_named(world: World) -> None:
    world.job("exp3rt", status="failed")
    shutil.rmtree(world.folder / "jobs" / "rec_saver-multistep-42")
    page = world.report()
    for text in (page.shown, world.markdown):
        assert "EXP3RT, seed 42: failed with ModelError: text of failure" in text
        assert "Rec-SAVER: no record; run r4r -m experiment=figure5 dataset=simulated" in text
    assert "Nothing to show: failed with ModelError: text of failure" in page.shown
    assert page.shown.count("Nothing to show: no record for seed 42") == len(page.cases) == 8


@pytest.mark.parametrize("how", ["gone", "half", "damaged"])
def test_predictions_that_are_gone_or_damaged_are_named(world: World, how: str) -> None:
    folder = world.folder / "artifacts" / "predict" / "test" / "exp3rt-multistep-42"
    if how == "gone":
        shutil.rmtree(folder)
    elif how == "half":
        (folder / "detail.parquet").unlink()
    else:
        (folder / "detail.parquet").write_bytes(b"PAR1 no more")
    why = "predict/test/exp3rt-multistep-42 is no longer on disk" if how == "gone" else "is damaged"
    page = world.report()
    assert len(page.cases) == 8
    assert "EXP3RT, seed 42: " in world.markdown
    assert re.search(rf"Nothing to show: .*{why}", page.shown)
    assert why in world.markdown
    assert "| none |" in world.markdown


def test_summaries_that_are_gone_are_named_and_the_reviews_stand(world: World) -> None:
    shutil.rmtree(world.folder / "artifacts" / "summaries")
    page = world.report()
    assert "histories show no summaries: its artifact summaries/summaries0 is no longer on disk" in page.shown
    assert "text of review 3" in page.shown


def test_without_a_split_the_page_says_that_no_case_can_be_shown(world: World) -> None:
    shutil.rmtree(world.folder / "artifacts" / "split")
    page = world.report("--rows", "9")
    assert page.cases == []
    assert "No case can be shown." in page.shown
    assert "its artifact split/split0 is no longer on disk" in page.shown
    assert "split/split0" in world.markdown


def test_reasons_that_are_empty_or_not_given_are_told_apart(world: World) -> None:
    path = world.folder / "artifacts" / "predict" / "test" / "exp3rt-multistep-42" / "detail.parquet"
    table = pd.read_parquet(path)
    table.loc[0, "reason"], table.loc[1, "reason"] = " ", None
    table.to_parquet(path, index=False)
    seal(world.folder / "artifacts", "predict/test", "exp3rt-multistep-42")
    told = world.report("--rows", "6,7").inside("p")
    assert [text for text in told if text.startswith("(")] == ["(an empty reason)", "(the method gives no reason)"]


# whatever the texts hold


def build(folder: Path, words: Words, dataset: str) -> tuple[World, Page]:
    made = World(folder, words, dataset)
    made.job("reason4rec")
    made.job("rec_saver")
    made.job("exp3rt", status="failed")
    return made, made.report()


def test_nothing_in_a_text_becomes_markup(tmp_path: Path) -> None:
    """A page of hostile texts has tag by tag and attribute by attribute the shape of one of plain texts."""
    _, tame = build(tmp_path / "plain", plain, "wine")
    made, page = build(tmp_path / "hostile", hostile, "<b>wine</b>\"'&")
    assert page.shape == tame.shape
    assert page.comments == tame.comments == []
    assert page.inside("script") == tame.inside("script")
    assert page.inside("style") == tame.inside("style")
    assert not [name for _, name, _ in page.attributes if name.startswith("on") or name in ("src", "href", "style")]
    scored = range(6, 14)
    expected = [f"reason {method}-multistep-42 {row}" for method in ("reason4rec", "rec_saver") for row in scored]
    expected += [f"review {row}" for row in scored] + [f"summary {row}" for row in range(2, 6)]
    for where in expected:
        assert hostile(where) in page.inside("p"), where
    for row in range(3):
        assert hostile(f"title {row}") in page.inside("h2")
        assert f"item {hostile(f'item {row}')}" in page.inside("bdi")
    assert "failed with ModelError: failure " in page.shown
    assert ("article", "data-data", "<b>wine</b>\"'&") in page.attributes
    assert not re.search("<script|<b>|<img", made.markdown)


@given(st.text())
def test_any_text_comes_back_from_an_element_and_an_attribute(text: str) -> None:
    page = Page(element("p", element("b", text, title=text), Html("<i></i>")))
    shown = case_page.UNREADABLE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))
    assert [shape[0] for shape in page.shape] == ["p", "b", "/b", "i", "/i", "/p"]
    assert page.attributes == [("b", "title", shown)]
    assert "".join(page.inside("b")) == (shown if shown.strip() else "")


def test_control_characters_and_half_characters_are_replaced() -> None:
    assert element("p", "a\x00b\ud800c\x85d\re") == "<p>a\ufffdb\ufffdc\ufffdd\ne</p>"


def test_the_policy_allows_the_pages_own_script_and_style_alone(world: World) -> None:
    page = world.report()
    [policy] = [value for tag, name, value in page.attributes if (tag, name) == ("meta", "content") and "-src" in value]
    for tag in ("script", "style"):
        [text] = page.inside(tag)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in str(policy)
    assert str(policy).startswith("default-src 'none'; ")
    assert "unsafe" not in str(policy)


def test_the_script_finds_what_it_filters_by(world: World) -> None:
    page = world.report()
    [script] = page.inside("script")
    names = {value for tag, name, value in page.attributes if name == "name" and tag in ("input", "select")}
    assert set(re.findall(r"wanted\.(\w+)", script)) - {"data"} == names - {"method"}  # one data set needs no choice
    ids = {value for _, name, value in page.attributes if name == "id"}
    assert set(re.findall(r'getElementById\("(\w+)"\)', script)) <= ids
    kept = {name.removeprefix("data-") for _, name, _ in page.attributes if name.startswith("data-")}
    assert set(re.findall(r"dataset\.(\w+)", script)) == kept


# the command


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["figure5", "--serve-url", "javascript:alert(1)"],
            "argument --serve-url: javascript:alert(1): must begin with http:// or https://",
        ),
        (["figure5", "--rows", "1,x"], "argument --rows: 1,x: must be whole numbers with commas between"),
        (["figure5", "--cases", "0"], "argument --cases: 0: must be a whole number, 1 or more"),
        (["figure5", "--rows", "1", "--cases", "2"], "not allowed with argument"),
        (["table2", "--rows", "1"], "table2: --rows and --cases are of figure5"),
    ],
)
def test_a_wrong_command_line(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.report(argv)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


# W&B's tables


SMALL = ["dataset.world.users=20", "dataset.world.items=10", "trainer=cpu"]


def test_a_job_logs_its_predictions_as_a_wandb_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R4R_OUTPUTS", str(tmp_path / "out"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    argv = ["r4r", "method=means", "~references.mf", "logger=wandb", "logger.mode=offline", *SMALL]
    monkeypatch.setattr(sys, "argv", argv)
    run.main()
    [path] = (tmp_path / "out").rglob("media/table/*.table.json")
    assert path.name.startswith("predictions_")
    table = json.loads(path.read_text(encoding="utf-8"))
    logged = pd.DataFrame(table["data"], columns=table["columns"])
    [stored] = (tmp_path / "out" / "artifacts" / "predict" / "means").rglob("data.parquet")
    wanted = pd.read_parquet(stored).sort_values(["row_id", "label"]).reset_index(drop=True)
    got = logged.sort_values(["row_id", "label"]).reset_index(drop=True)[list(wanted)]
    pd.testing.assert_frame_equal(got, wanted, check_dtype=False)
    assert {"user_id", "item_id", "title", "rating"} <= set(logged)


def test_reasons_stand_beside_the_reviews_in_a_table_of_cases(tmp_path: Path) -> None:
    config = validate(compose(make_loader(), "config", ["experiment=figure5", *SMALL]))
    job = Job(config, Store(tmp_path))

    def predict(work: Work) -> dict[str, Any]:
        table = targets(work.job)[["row_id"]].assign(label="Ours", mean=4.0, median=4.0, mode=5.0)
        table.to_parquet(work.folder / "data.parquet", index=False)
        reasons = [f"reason {row}" for row in table["row_id"]]
        table.assign(reason=reasons).to_parquet(work.folder / "detail.parquet", index=False)
        return {}

    final = plain_stage("predict/test", predict, {"split": split_stage(config)})
    predicted = {"shown": {"stage": final.name, "key": final.key, "label": "Ours"}}
    tables = case_tables(job, [final], predicted)
    assert set(tables["predictions"]["label"]) == set(tables["cases"]["label"]) == {"shown"}
    rows = targets(job)
    assert tables["cases"]["row_id"].tolist() == rows["row_id"].tolist()
    assert tables["cases"]["review"].tolist() == rows["review"].tolist()
    assert tables["cases"]["reason"].tolist() == [f"reason {row}" for row in rows["row_id"]]
    assert tables["cases"].columns[:9].tolist() == tables["predictions"].columns.tolist()
