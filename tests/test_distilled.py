"""Reasons in training alone: a Predictor that reads none learns the ratings that it gives with them."""

from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.schema import Config
from r4r.errors import ConfigError
from r4r.files import conf_dir
from r4r.lm.base import LanguageModel, Lora
from r4r.lm.loss import response_loss
from r4r.lm.rate import rate
from r4r.lm.rating_tokens import rating_text
from r4r.rows import LESSONS
from r4r.scale import PAPER, Scale
from r4r.stages.deliberation import Options, predictions_stage
from r4r.stages.stage import Job
from r4r.stages.train import training
from r4r.store.artifact import Store
from r4r.training.meter import Meter
from r4r.training.objectives.base import encode
from r4r.training.objectives.distilled import Distilled, Graded
from r4r.training.objectives.sft import SFT

LOADER = make_loader()
JOB = (
    "experiment=smoke",
    "++dataset.history.summaries=planted",
    "reason_source=hint",
    "experts.predictor.epochs=4",
    "experts.predictor.batch_size=2",
)
ANALYSIS = "### Personalized Recommendation Analysis ###\n"
HALVES = Scale(lowest=0.5, highest=5, step=0.5)
PROMPTS = ["music", "The user would enjoy the melody. " * 5, "The vocals are weak."]


@cache
def configured(*overrides: str) -> Config:
    return validate(compose(LOADER, "config", [*JOB, *overrides]))


def changed(key: str, value: Any, strategy: str = "distilled") -> Config:
    """The job of a strategy with another value at a dotted key."""
    values = configured(f"strategy={strategy}").model_dump()
    node: Any = values
    *path, last = key.split(".")
    for part in path:
        node = node[part]
    node[last] = value
    return Config.model_validate(values)


def keys(config: Config) -> dict[str, str]:
    return {stage.name: stage.key for stage in predictions_stage(config).upstream()}


def option(path: str, **settings: Any) -> dict[str, Any]:
    return yaml.safe_load((Path(conf_dir()) / f"{path}.yaml").read_text(encoding="utf-8")) | settings


# the loss


def lessons(scale: Scale) -> list[tuple[int, str, Graded]]:
    """Prompts whose true rating is the scale's lowest, second, ... and whose soft labels lean to its highest."""
    weights = torch.arange(1.0, len(scale.values) + 1)
    label = tuple((weights / weights.sum()).tolist())
    return [(n, text, Graded(rating_text(scale.values[n], scale), label, scale)) for n, text in enumerate(PROMPTS)]


def loss_of(lm: LanguageModel, objective: Distilled, scale: Scale) -> tuple[torch.Tensor, float]:
    """Summed loss, and the mean divergence from the soft labels that was measured."""
    objective.meter = Meter()
    loss = objective.loss(lm, objective.encode(lm, lessons(scale)))
    count, total, _ = objective.meter.take()["soft_label_kl"]
    return loss, total / count


@pytest.mark.parametrize("scale", [PAPER, HALVES])
@pytest.mark.parametrize("loss_on", ["response", "digit"])
def test_without_a_weight_of_the_soft_label_it_is_sft(tiny: LanguageModel, scale: Scale, loss_on: Any) -> None:
    texts = [(row_id, prompt, graded.response) for row_id, prompt, graded in lessons(scale)]
    sft, own = SFT(loss_on), Distilled(0.0, loss_on)
    plain = sft.encode(tiny, texts)
    with torch.no_grad():
        assert float(loss_of(tiny, own, scale)[0]) == pytest.approx(float(response_loss(tiny, plain)), rel=1e-5)
    mine = own.encode(tiny, lessons(scale))
    assert sum(map(own.weight, mine)) == sum(map(sft.weight, plain))


@pytest.mark.parametrize("scale", [PAPER, HALVES])
def test_the_soft_label_is_learnt_by_the_probabilities_of_decoding(tiny: LanguageModel, scale: Scale) -> None:
    """Whole strings of the values, several points where they part included."""
    label = torch.tensor(lessons(scale)[0][2].probabilities)
    found = rate(tiny, [tiny.chat.prompt_ids(prompt) for prompt in PROMPTS], scale)
    with torch.no_grad():
        loss, divergence = loss_of(tiny, Distilled(1.0, "digit"), scale)
    assert float(loss) == pytest.approx(float(-(label * found.log()).sum()), rel=1e-4)
    expected = (label * (label / found).log()).sum(dim=1).mean()
    assert divergence == pytest.approx(float(expected), rel=1e-3)


def test_a_step_moves_the_ratings_to_the_soft_labels(load_tiny: Any) -> None:
    lm = load_tiny()
    weights = lm.new_adapter("predictor", Lora(r=4, alpha=8), True, 0)
    optimizer = torch.optim.Adam(weights, lr=3e-3)
    divergences = []
    for _ in range(6):
        loss, divergence = loss_of(lm, Distilled(1.0, "digit"), HALVES)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        divergences.append(divergence)
    assert divergences[-1] < 0.7 * divergences[0]


def test_a_lesson_takes_as_many_tokens_as_its_longest_text_for_each_point_where_values_part(
    tiny: LanguageModel,
) -> None:
    for scale, most in ((PAPER, 1), (HALVES, 10)):
        for own, (row_id, prompt, graded) in zip(Distilled().encode(tiny, lessons(scale)), lessons(scale), strict=True):
            [lesson] = encode(tiny, [(row_id, prompt, graded.response)])
            assert len(own.texts) == len(own.spelled.branches)
            assert len(own) >= sum(map(len, own.texts)) >= len(lesson)
            assert (len(own.texts) == 1) == (most == 1)


# in a job


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> Any:
    """A job of strategy=distilled, and its last stage, built."""
    folder = tmp_path_factory.mktemp("distilled")
    where = {"outputs": folder, "artifacts": folder / "artifacts", "cache": model_cache}
    config = configured("strategy=distilled")
    config = config.model_copy(update={"paths": config.paths.model_copy(update=where)})
    job, final = Job(config, Store(config.paths.artifacts)), predictions_stage(config)
    job.materialize(final)
    return job, final


def test_the_labels_are_the_ratings_by_the_predictor_that_learnt_with_reasons(made: Any) -> None:
    job, final = made
    student, labels = final.trained, final.trained.lessons
    plain = predictions_stage(configured("strategy=multistep"))
    assert labels.rater.trained.key == plain.trained.key != student.key  # shared with the job that reads reasons
    with_reasons, without = (job.materialize(s).table(LESSONS) for s in (labels.reasoned, labels.lessons))
    assert with_reasons["row_id"].tolist() == without["row_id"].tolist()
    assert with_reasons["prompt"].str.contains(ANALYSIS).all()
    assert not without["prompt"].str.contains(ANALYSIS).any()
    detail = pd.read_parquet(job.materialize(labels).path / "detail.parquet").sort_values("row_id")
    assert detail["row_id"].tolist() == sorted(without["row_id"])
    job.engine.load_adapter("predictor", job.materialize(labels.rater.trained).path / "adapter")
    prompts = with_reasons.set_index("row_id").loc[detail["row_id"], "prompt"]
    with job.lm.using("predictor"):
        found = rate(job.lm, [job.chat.prompt_ids(prompt) for prompt in prompts])
    kept = torch.tensor(detail[["p1", "p2", "p3", "p4", "p5"]].to_numpy(dtype=float)).float()
    torch.testing.assert_close(found, kept, rtol=0, atol=1e-4)
    handed = student.material(type("Work", (), {"of": staticmethod(job.materialize)})())
    assert [row[0] for row in handed] == without["row_id"].tolist()
    by_row = dict(zip(detail["row_id"], kept.tolist(), strict=True))
    for row_id, prompt, graded in handed:
        assert graded.probabilities == pytest.approx(by_row[row_id], abs=1e-6)
        assert ANALYSIS not in prompt


def test_no_reason_is_written_or_read_at_test(made: Any) -> None:
    job, final = made
    names = {stage.name for stage in final.upstream()}
    assert "write/reasoner/experts" in names
    assert "write/reasoner/test" not in names
    detail = pd.read_parquet(job.materialize(final).path / "detail.parquet")
    assert detail["reason"].isna().all()
    assert set(detail["label"]) == {"Reason4Rec, reasons in training alone"}
    assert (job.materialize(final.trained).path / "steps.jsonl").read_text().count("soft_label_kl") > 3


def test_the_weight_of_the_soft_label_is_in_the_students_key_alone() -> None:
    before = keys(configured("strategy=distilled"))
    after = keys(changed("experts.predictor.objective.soft_weight", 1.0))
    assert {name for name in after if after[name] != before[name]} == {"train/predictor", "predict/test"}


@pytest.mark.parametrize("loss_on", ["response", "digit"])
def test_the_labels_are_those_of_the_plain_jobs_predictor(loss_on: str) -> None:
    """By whichever part of the answer it learns."""
    student = changed("experts.predictor.objective.loss_on", loss_on)
    plain = changed("experts.predictor.objective.loss_on", loss_on, "multistep")
    (labels,) = [stage for stage in predictions_stage(student).upstream() if stage.name == "train/predictor.labels"]
    (taught,) = [stage.key for stage in labels.upstream() if stage.name == "train/predictor"]
    assert taught == keys(plain)["train/predictor"]


@pytest.mark.parametrize(
    ("key", "value", "options", "told"),
    [
        ("reason_source", option("reason_source/none"), Options(), "here no earlier step writes any"),
        ("control", option("control/shuffled_reasons"), Options(), "reads no reason of an earlier step"),
        ("seed", 1, Options(reasons=3), "rates without any reason"),
        ("experts.reasoner.objective", option("objective/distilled"), Options(), "only a last step that rates"),
        (
            "experts.reasoner.objective",
            option("objective/distilled", soft_weight=0.0),
            Options(reason_training="crossfit"),
            "learn by sft alone, and experts.reasoner.objective is another",
        ),
    ],
)
def test_what_cannot_be_learnt_is_refused_before_anything_runs(
    key: str, value: Any, options: Options, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        predictions_stage(changed(key, value), options)


@pytest.mark.parametrize(("place", "objective"), [("reward_model", "distilled"), ("summarizer", "dpo")])
def test_an_expert_that_is_taught_by_lessons_alone_takes_no_other_objective(place: str, objective: str) -> None:
    config = changed(f"experts.{place}.objective", option(f"objective/{objective}"), "multistep")
    with pytest.raises(ConfigError, match=rf"experts.{place}.objective: \w+ needs \w+, and this job has lessons alone"):
        training(config, place, None)


def test_reasons_of_others_in_training_are_a_control_of_it() -> None:
    plain = keys(configured("strategy=distilled"))
    controlled = keys(changed("control", option("control/shuffled_reasons", when="always")))
    assert {name for name in controlled if controlled[name] != plain[name]} == {
        *("train/predictor.labels", "train/predictor", "predict/test")
    }
