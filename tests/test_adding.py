"""What adding something costs, a file or two each, in a copy: a step, a reason source, a prompt, an objective, a metric
of ratings, a data layout; and a folder and a file for a baseline with a language model.

Nothing else is edited there, and the job's plan, record and help know them.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from forked import Ended, command

ROOT = Path(__file__).parent.parent
FILES = {
    # a step between the Reasoner and the Predictor: its expert's file, its prompt, its place in a strategy
    "r4r/experts/critic.py": '''
from r4r.experts.steps import Thinker
from r4r.rows import Case, Lesson


class Critic(Thinker):
    """Reads what the Reasoner wrote; says whether to trust it."""

    templates = ("critic",)

    def prompt(self, case: Case) -> str:
        return self.render("critic", title=case.title, reason=case.thoughts[-1])

    def target(self, case: Case, lesson: Lesson) -> str:
        return "Trust it." if lesson.reason == case.thoughts[-1] else "Doubt it."
''',
    "r4r/prompts/critic.txt": "### Reason for {title} ###\n{reason}\n\n### Task: Say whether to trust it.\n",
    "conf/expert/critic.yaml": "defaults: [reasoner]\n_target_: r4r.experts.critic.Critic\n",
    "conf/strategy/critic.yaml": (
        "defaults: [multistep, /expert@_global_.experts.critic: critic, _self_]\n"
        "name: critic\nlabel: Reason4Rec with a critic\nsteps: [reasoner, critic, predictor]\n"
    ),
    # a reason source: one class, one YAML
    "r4r/reasons/verdicts.py": """
from r4r.stages.reasons import TextSource


class Verdicts(TextSource):
    def texts(self, pairs, reviews):
        return ["They would like it." if rating > 3 else "" for rating in pairs["rating"]]
""",
    "conf/reason_source/verdicts.yaml": "_target_: r4r.reasons.verdicts.Verdicts\nname: verdicts\n",
    # an objective: one class, one YAML
    "r4r/training/objectives/halved.py": '''
from r4r.training.objectives.sft import SFT


class Halved(SFT):
    """Examples with an odd number of tokens count less."""

    def __init__(self, loss_on="response", share: float = 0.5):
        super().__init__(loss_on)
        self.share = share

    def weight(self, example):
        return super().weight(example) * (1.0 if len(example) % 2 else self.share)
''',
    "conf/objective/halved.yaml": ("_target_: r4r.training.objectives.halved.Halved\nloss_on: response\nshare: 0.5\n"),
    # a metric of ratings: one class, one YAML
    "r4r/metrics/near.py": """
import numpy as np
from r4r.metrics.rating_metric import RatingMetric


class Near(RatingMetric):
    title = "near"
    higher_is_better = True

    def __init__(self, within: float = 1.0):
        self.within = within

    def of(self, truth, predicted, scale):
        return (np.abs(truth - predicted) <= self.within * scale.step).astype(float)
""",
    "conf/rating_metric/near.yaml": "_target_: r4r.metrics.near.Near\nwithin: 1.0\n",
    # a data layout: one reader, one YAML
    "r4r/data/diary.py": """
from r4r.data.readers import RawReader


class Diary(RawReader):
    def __init__(self, mark: str = ";"):
        self.mark = mark

    def records(self, path):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            user, item, stars, day, *words = line.split(self.mark)
            review = self.mark.join(words)
            known = {"user_id": user, "item_id": item, "title": f"The {item}", "rating": float(len(stars))}
            yield number, {**known, "review": review, "timestamp": day} if words else "no words"
""",
    "conf/dataset/diary.yaml": (
        "name: diary\nsource: custom\ncategory: Place\nreviews: diary.txt\n"
        "layout: {_target_: r4r.data.diary.Diary, mark: '|'}\nprepare: {k_core: 1}\nmax_bad_fraction: 0.1\n"
    ),
    "diary.txt": "\n".join(
        ["u1|i1|***|2020-01-01"]
        + [f"u{n % 5}|i{n % 7}|{'*' * (1 + n % 5)}|2020-02-{n % 28 + 1:02}|fine | really" for n in range(35)]
    ),
    # a baseline with a language model: a folder with its code, its prompt and the simulator's answer; one YAML
    "r4r/methods/gut/__init__.py": '''
from dataclasses import dataclass

from r4r.configuration.schema import EvaluateConfig
from r4r.methods import point_predictions
from r4r.pipeline.stage import Stage
from r4r.prompts.render import render, template
from r4r.rows import PREDICTIONS, REVIEWS
from r4r.stages.identity import teacher_identity
from r4r.stages.ask_all import ask_all
from r4r.stages.reasons import Teaching
from r4r.stages.split import Split, evaluated_rows, split_stage
from r4r.store.artifact import write_table
from r4r.teacher.registry import answers

ASK = "methods/gut/ask.txt"


@answers(ASK, r"\\AYour gut feeling on (?P<title>[^?]*)", version=1)
def gut_feeling(prompt, found):
    return str(1 + len(found["title"]) % 5)


class Gut:
    """Asks the teacher for its gut feeling on a title."""

    uses = frozenset({"dataset", "teacher"})

    def __init__(self, name: str = "gut"):
        self.name = name

    def stages(self, job):
        config = job.config
        asked = Teaching(teacher_identity(config, ASK), 0.0, 16, {ASK: template(ASK)})
        return Feelings(split_stage(config), config.dataset.evaluate, asked)


@dataclass(frozen=True)
class Feelings(Stage):
    split: Split
    evaluate: EvaluateConfig
    asked: Teaching

    @property
    def name(self):
        return "predict/gut"

    def build(self, work):
        rows = evaluated_rows(self.evaluate, work.of(self.split).table(REVIEWS))
        prompts = [render(ASK, title=title) for title in rows["title"]]
        told, facts = ask_all(work, "feelings", rows["row_id"].tolist(), prompts, 0.0, 16, required="feeling")
        table = point_predictions(rows["row_id"], "Gut feeling", told["answer"].astype(float), self.split.scale)
        write_table(work.folder / "data.parquet", table, PREDICTIONS)
        return facts
''',
    "r4r/methods/gut/ask.txt": "Your gut feeling on {title}?\n",
    "conf/method/gut.yaml": "_target_: r4r.methods.gut.Gut\nname: gut\n",
    # another prompt: one file, named where the expert is
    "short.txt": "### User ###\n{user_history}\n### Item ###\n{item_history}\n### Like the {category} {title}?\n",
}
JOB = [
    "experiment=smoke",
    "references={}",
    "dataset.world.reviews_per_user=6",
    "+method@references.gut=gut",
    "+rating_metric@metrics.ratings.near=near",
    "strategy=critic",
    "reason_source=verdicts",
    "objective@experts.critic.objective=halved",
    "experts.critic.objective.share=0.25",
    "++experts.reasoner.prompts.reasoner=short.txt",
]


def r4r_of(checkout: Path, *overrides: str) -> Ended:
    outputs = [] if "--help" in overrides else [f"paths.outputs={checkout / 'outputs'}"]
    return command(*overrides, *outputs, folder=checkout, package=checkout).wait()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and its configuration with the files above, which replace none."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("r4r", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in FILES.items():
        assert not (folder / path).exists()
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return folder


def test_what_was_added_is_trained_writes_and_is_scored(checkout: Path) -> None:
    done = r4r_of(checkout, *JOB)
    assert done.returncode == 0, done.stderr
    record = json.loads(Path(done.stdout.strip().splitlines()[-1]).read_text())
    labels = [row["label"] for row in record["metrics"] if row["decoding"] == "mean"]
    assert labels[0] == "Reason4Rec with a critic"
    assert "Gut feeling" in labels
    assert all(0 <= row["near"] <= 1 and row["near_se"] >= 0 for row in record["metrics"])
    assert "near ± se" in done.stdout

    def table(stage: str) -> pd.DataFrame:
        return pd.read_parquet(checkout / "outputs" / "artifacts" / stage / record["artifacts"][stage] / "data.parquet")

    reasons, learnt = table("reasons"), table("train/critic.lessons")
    assert set(reasons["reason"]) == {"They would like it."}
    assert learnt["row_id"].tolist() == reasons["row_id"].tolist()
    assert set(learnt["response"]) <= {"Trust it.", "Doubt it."}
    assert learnt["prompt"].str.startswith("### Reason for ").all()
    assert table("train/reasoner.lessons")["prompt"].str.contains("### Like the Music").all()
    assert len(table("write/critic/test")) == record["metrics"][0]["n"]
    analysis = table("train/predictor.lessons")["prompt"].str.contains("### Personalized Recommendation Analysis ###")
    assert analysis.all()
    manifest = checkout / "outputs" / "artifacts" / "train/critic" / record["artifacts"]["train/critic"] / "config.yaml"
    objective = yaml.safe_load(manifest.read_text(encoding="utf-8"))["expert"]["objective"]
    assert (objective["_target_"].rpartition(".")[2], objective["share"]) == ("Halved", 0.25)


def test_plans_and_help_know_what_was_added(checkout: Path) -> None:
    text = r4r_of(checkout, "--help").stdout
    assert all(name in text for name in ("critic", "verdicts", "halved", "near", "diary", "gut"))
    planned = r4r_of(checkout, *JOB, "plan=true").stdout
    assert "write/critic/test" in planned


def test_a_prompt_file_that_cannot_be_filled_is_refused(
    r4r: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("Would they like {title}?", encoding="utf-8")
    assert r4r("experiment=smoke", f"++experts.reasoner.prompts.reasoner={wrong}", "plan=true") == 2
    assert "must hold the fields {category}, {item_history}, {title}, {user_history}" in capsys.readouterr().err


def test_a_prompt_that_the_simulated_teacher_does_not_know_is_told(
    r4r: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.txt"
    other.write_text("{user_history}\n{item_history}\nWould they like the {category} {title}?", encoding="utf-8")
    job = ["experiment=smoke", "logger=none", "experts.reward_model.epochs=1", "++dataset.history.summaries=teacher"]
    job += [f"++experts.reasoner.prompts.reasoner={other}", f"paths.outputs={tmp_path}"]
    assert r4r(*job) == 1
    told = capsys.readouterr().err
    assert "the teacher gave no reason for any of 7 pairs; most often: the simulated teacher knows the prompts" in told


def test_a_data_set_of_a_new_layout_is_read_and_scored(checkout: Path) -> None:
    job = ["dataset=diary", "method=means", "~references.mf", "logger=none", f"paths.data={checkout}"]
    done = r4r_of(checkout, *job, "+rating_metric@metrics.ratings.near=near", "metrics.ratings.near.within=0.5")
    assert done.returncode == 0, done.stderr
    record = json.loads(Path(done.stdout.strip().splitlines()[-1]).read_text())
    (split,) = (checkout / "outputs/artifacts/split").glob(f"{record['artifacts']['split']}/data.parquet")
    rows = pd.read_parquet(split)
    assert len(rows) == 35
    assert set(rows["review"]) == {"fine | really"}
    assert set(rows["title"]) == {f"The i{n}" for n in range(7)}
    one, other, *_ = (row for row in record["metrics"] if row["decoding"] == "mean")
    compared = next(entry for entry in record["comparisons"] if entry["label"] == other["label"])
    assert compared["near"]["difference"] == pytest.approx(one["near"] - other["near"])
    assert 0 < compared["near"]["p"] <= 1
    assert done.stdout.splitlines()[2].count(" p ") == 3  # each metric has its p beside it
    report = json.loads(split.with_name("table1.json").read_text())
    assert report["files"]["reviews"]["dropped"] == {"no words": 1}
    assert "diary.Diary" in split.with_name("config.yaml").read_text()
