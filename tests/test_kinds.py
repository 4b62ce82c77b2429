"""A setting that the chosen kind of a group does not have, and another has: refused, with the kinds that have it."""

import pytest

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.kinds import stranger, strangers
from r4r.configuration.preflight import preflight
from r4r.configuration.schema import WorldConfig
from r4r.configuration.teachers import KINDS
from r4r.errors import ConfigError

LOADER = make_loader()


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_takes_the_settings_of_its_kind_alone(kind: str) -> None:
    own = set(KINDS[kind].model_fields)
    for name in set().union(*(config.model_fields for config in KINDS.values())):
        having = [other for other, config in KINDS.items() if name in config.model_fields]
        told = stranger(f"teacher.{name}", {"teacher": {"kind": kind}})
        if name in own:
            assert told == ""
        else:
            assert told.startswith(f"teacher={kind} has no such setting")
            assert all(f"teacher={other}" in told for other in having)
    assert strangers({"teacher": {"kind": kind, "model": "m", "typo": 1}}) == {}  # a typo is no other kind's


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["method=null"], "method=null: names no option; drop it, name one, or take it out with ~method"),
        (
            ["teacher=openai", "teacher.skill=0.5"],
            "teacher.skill: teacher=openai has no such setting (teacher=simulator",
        ),
        (["-m", "teacher=openai,simulator", "teacher.skill=0.4"], "teacher=openai has no such setting"),
        (
            ["dataset=music", "method=mf", "dataset.world.users=9"],
            "dataset.world: a data set with source=amazon2014 has",
        ),
        (["dataset.reviews=x.csv"], "dataset.reviews: a simulated data set has no such setting (source=amazon2014"),
        (
            ["reason_source=history", "reason_source.max_hinted=3"],
            "(reason_source=filtered, reason_source=iterated have it)",
        ),
        (["method=means", "method.dim=3"], "(method=daml, method=mf, method=narre have it)"),
        (["experts.predictor.max_new_tokens=5"], "experts.predictor has no such setting (expert="),
        (
            ["objective@experts.predictor.objective=best_of_n", "experts.predictor.objective.loss_on=digit"],
            "experts.predictor.objective has no such setting (objective=distilled, objective=sft have it)",
        ),
        (
            ["metrics=paper", "metrics.gptscore.judge.skill=1"],
            "metrics.gptscore.judge.skill: teacher=openai has no such",
        ),
        (["logger=none", "logger.project=x"], "logger.project='x': only W&B reads it"),
        (["timing.warmup=4"], "timing.warmup=4: nothing is timed"),
        (["method=mf", "trainer.checkpoint_every_s=3"], "train no expert"),
        (["experiment=smoke", "dataset=music", "method=mf", "dataset.world.users=3"], "(a simulated one has it)"),
    ],
)
def test_a_setting_of_another_kind_is_refused(argv: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        preflight([*argv, "plan=true"])
    assert any(told in problem for problem in error.value.problems), error.value.problems


def test_what_a_preset_brings_for_another_kind_is_left_out() -> None:
    job = ["experiment=[smoke,real_small]", "dataset=music", "teacher=server", "reason_source=history"]
    config = validate(compose(LOADER, "config", job))
    assert config.dataset.world == WorldConfig()
    assert config.reason_source == {"_target_": "r4r.stages.reasons.HistoryInferred", "name": "history"}
    assert set(config.model_dump()["teacher"]) == set(KINDS["server"].model_fields)
    simulated = validate(compose(LOADER, "config", ["experiment=smoke"]))
    assert simulated.dataset.world.users == 20
    assert set(simulated.model_dump()["teacher"]) == set(KINDS["simulator"].model_fields)


def test_what_a_recipe_brings_for_another_objective_is_left_out() -> None:
    assert "loss_on" in compose(LOADER, "config", []).experts.reward_model.objective  # the recipe's
    job = ["objective@experts.reward_model.objective=grpo"]
    config = validate(compose(LOADER, "config", job), classes=False)
    assert "loss_on" not in config.experts["reward_model"]["objective"]
