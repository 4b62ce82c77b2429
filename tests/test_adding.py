"""What adding something costs: a step, a reason source, a prompt and an objective, a file or two each, in a copy.

Nothing else is edited there, and the job's plan, record and help know them.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

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
    """Examples of every other row count half."""

    def weight(self, example):
        return super().weight(example) * (1.0 if len(example) % 2 else 0.5)
''',
    "conf/objective/halved.yaml": ("_target_: r4r.training.objectives.halved.Halved\nloss_on: response\n"),
    # another prompt: one file, named where the expert is
    "short.txt": "### User ###\n{user_history}\n### Item ###\n{item_history}\n### Like the {category} {title}?\n",
}
JOB = [
    "experiment=smoke",
    "references={}",
    "strategy=critic",
    "reason_source=verdicts",
    "objective@experts.critic.objective=halved",
    "++experts.reasoner.prompts.reasoner=short.txt",
]


def command(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "r4r.run", *overrides]
    if "--help" not in overrides:
        line.append(f"paths.outputs={folder / 'outputs'}")
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=280, check=False)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and its configuration with the files above, which replace none."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("r4r", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in FILES.items():
        assert not (folder / path).exists()
        (folder / path).write_text(text, encoding="utf-8")
    return folder


def test_what_was_added_is_trained_writes_and_is_scored(checkout: Path) -> None:
    done = command(checkout, *JOB)
    assert done.returncode == 0, done.stderr
    record = json.loads(Path(done.stdout.strip().splitlines()[-1]).read_text())
    assert record["metrics"][0]["label"] == "Reason4Rec with a critic"

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
    assert "halved.Halved" in manifest.read_text(encoding="utf-8")


def test_plans_and_help_know_what_was_added(checkout: Path) -> None:
    text = command(checkout, "--help").stdout
    assert all(name in text for name in ("critic", "verdicts", "halved"))
    planned = command(checkout, *JOB, "plan=true").stdout
    assert "write/critic/test" in planned


def test_a_prompt_file_that_cannot_be_filled_is_refused(checkout: Path) -> None:
    (checkout / "wrong.txt").write_text("Would they like {title}?", encoding="utf-8")
    done = command(checkout, "experiment=smoke", "++experts.reasoner.prompts.reasoner=wrong.txt", "plan=true")
    assert done.returncode == 2, done.stdout
    assert "must hold the fields {category}, {item_history}, {title}, {user_history}" in done.stderr
