"""The command line: every value of a sweep is checked, and what nothing in the job would read is refused."""

from pathlib import Path

import pytest
from composed_jobs import composed, refused

from r4r.configuration.checks import validate
from r4r.configuration.preflight import notes, preflight
from r4r.configuration.unread import ignored
from r4r.errors import ConfigError


def test_misspellings_on_the_command_line_are_told_at_once() -> None:
    found = refused(
        "metod=mf", "llm=smol", "dataset.k_core=3", "experts.reasoner.lora.rr=3", "seed=1,2", "logger=non", "x=[1"
    )
    for sentence in (
        "metod=mf: there is no key or group 'metod'; did you mean method?",
        "llm=smol: llm has no option 'smol'; did you mean smollm2_135m?",
        "dataset.k_core=3: there is no key or group 'dataset.k_core'; did you mean dataset.prepare.k_core?",
        "experts.reasoner.lora.rr=3: there is no key or group 'experts.reasoner.lora.rr'; did you mean r?",
        "seed=1,2: lists several values; add -m",
        "logger=non: logger has no option 'non'; did you mean none?",
        "x=[1: cannot be read",
    ):
        assert any(problem.startswith(sentence) for problem in found), (sentence, found)
    assert len(found) == 7


def test_values_are_checked_with_the_names() -> None:
    found = refused("seeed=1", "dataset.prepare.k_core=0")
    assert [problem.split(":")[0] for problem in found] == ["seeed=1", "dataset.prepare.k_core=0"]


def test_a_home_folder_that_no_value_can_begin_with_is_told() -> None:
    for override in ("dataset.reviews=~/a.csv", "paths={outputs: ~/o}"):
        assert f"{override}: cannot be read: write the folder of ~ in full" in refused("dataset=custom", override)


def test_the_home_folder_may_hold_options_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert refused("--config-dir=~/own") == [f"--config-dir {tmp_path}/own: there is no such folder"]
    (tmp_path / "own").mkdir()
    preflight(["--config-dir=~/own", "experiment=smoke"])


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("experts.reasonr.lr", "experts.reasoner.lr"),
        ("experts.predicter.lora.r", "experts.predictor.lora.r"),
        ("datset.history.prompt", "dataset.history.prompt"),
    ],
)
def test_a_key_whose_parent_is_misspelt_is_told_with_the_close_one(wrong: str, right: str) -> None:
    [told] = refused(f"{wrong}=1")
    assert told.endswith(f"did you mean {right}?")


def test_an_item_of_a_list_is_named_by_its_place() -> None:
    assert "trainer.devices.1='x': should be a valid integer" in " ".join(refused("trainer.devices=[0,x]"))


def test_a_switch_is_no_number() -> None:
    """Neither in a group, nor among a class's own settings or Lightning's, nor within a list."""
    assert refused("experiment=smoke", "trainer.val_check_interval=true")
    integers = ["seed", "dataset.evaluate.seed", "experts.reasoner.lora.r", "trainer.max_steps", "trainer.devices"]
    numbers = ["experts.reasoner.lr", "reason_source.tau", "dataset.world.noise_sd"]
    found = refused("experiment=smoke", *(f"{name}=true" for name in integers + numbers), "trainer.num_nodes=[false]")
    wanted = [f"{name}=true: should be a valid integer" for name in integers]
    wanted += [f"{name}=true: should be a valid number" for name in numbers]
    assert sorted(found) == sorted([*wanted, "trainer.num_nodes=[False]: should be a valid integer"])


def test_a_setting_of_a_step_that_the_order_leaves_out_is_refused() -> None:
    job = ["dataset=musical_instruments", "method=mf", "dataset.prepare.order=[dedupe]"]
    (told,) = refused(*job, "dataset.prepare.k_core=3", "dataset.prepare.dedupe=false")
    assert (
        told == "dataset.prepare.k_core=3: dataset.prepare.order leaves out k_core; add it there, or drop the override"
    )
    assert preflight([*job, "dataset.prepare.k_core=3", "dataset.prepare.sample_users=90"])


def test_a_schema_key_that_no_file_spells_out_can_be_set() -> None:
    real = ["dataset=musical_instruments", "teacher=openai"]
    argv = ["dataset.strict=true", "experts.reasoner.max_grad_norm=0.5", "seed=1", "logger=none"]
    assert preflight([*real, *argv]) == [
        *real,
        "++dataset.strict=true",
        "++experts.reasoner.max_grad_norm=0.5",
        *argv[2:],
    ]
    assert refused(*real, "dataset.strict=maybe")[0].startswith("dataset.strict='maybe': should be a valid boolean")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-m", "seed=1,two"], "seed='two': should be a valid integer"),
        (
            ["-m", "seed=range(1,3)", "dataset.history.prompt=3,all"],
            "dataset.history.prompt='all': should be a valid integer",
        ),
        (["-m", "llm=tiny,tinny"], "llm=tinny: llm has no option 'tinny'; did you mean tiny?"),
        (["-m", "trainer=cpu,smoke", "seeed=1,2"], "seeed=1: there is no key or group 'seeed'; did you mean seed?"),
    ],
)
def test_every_value_of_a_sweep_is_checked(argv: list[str], message: str) -> None:
    found = refused(*argv)
    assert len(found) == 1
    assert found[0].startswith(message)


def test_good_sweeps_pass() -> None:
    for argv in (["-m", "logger=glob(c*)"], ["-m", "method=mf,reason4rec", "llm=tiny"]):
        assert preflight(argv) == argv


def test_a_swap_of_an_expert_that_is_not_there() -> None:
    assert "expert@experts.critic=reasoner" in refused("expert@experts.critic=reasoner")[0]


def test_presets_are_checked_too(tmp_path: Path) -> None:
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "typo.yaml").write_text("# @package _global_\nexperiment: typo\ndataset: {prepare: {k_cor: 3}}\n")
    (folder / "gone.yaml").write_text("# @package _global_\ndefaults: [{override /llm: smollm2}]\nexperiment: gone\n")
    (folder / "sweep.yaml").write_text(
        "# @package _global_\nexperiment: sweep\nhydra: {mode: MULTIRUN, sweeper: {params: {seeed: '1,2'}}}\n"
    )
    base = ["--config-dir", str(tmp_path)]
    assert refused(*base, "experiment=typo") == [
        "dataset.prepare.k_cor: there is no such setting; did you mean k_core?"
    ]
    gone = refused(*base, "experiment=gone")
    assert len(gone) == 1
    assert "llm has no option 'smollm2'; did you mean smollm2_135m?" in gone[0]
    assert refused(*base, "-m", "experiment=sweep")[0].startswith("seeed=1: there is no key or group 'seeed'")
    assert refused("--config-dir", str(tmp_path / "nowhere"))[0].endswith("there is no such folder")


def test_with_one_shared_adapter_the_other_experts_training_is_not_read() -> None:
    shared = ["method=exp3rt", "method.adapters=shared"]
    given = ["experts.exp3rt_item_profile.lr=1e-3", "objective@experts.exp3rt_preferences.objective=sft"]
    read = ["experts.exp3rt.lr=1e-3", "experts.exp3rt_user_profile.max_new_tokens=80"]
    found = ignored(composed(*shared, *given, *read), [*shared, *given, *read])
    assert found == [f"{text}: is not read by exp3rt, adapters=shared; drop the override" for text in given]
    assert ignored(composed("method=exp3rt", *given), ["method=exp3rt", *given]) == []
    told = notes(composed(*shared), shared)
    assert "how experts.exp3rt_item_profile, experts.exp3rt_preferences, experts.exp3rt_user_profile are" in told[0]
    assert notes(composed("method=exp3rt"), []) == []


def test_overrides_that_the_method_ignores_are_refused() -> None:
    overrides = ["method=mf", "llm=tiny", "seed=3", "experts.reasoner.lr=1", "expert@experts.reasoner=predictor"]
    found = ignored(composed(*overrides), overrides)
    assert [sentence.split(":")[0] for sentence in found] == [overrides[1], *overrides[3:]]
    assert "mf" in found[0]
    assert "llm" in found[0]
    assert ignored(composed("llm=tiny"), ["llm=tiny"]) == []
    assert ignored(composed("method=mf", "dataset.tau=1"), ["method=mf", "dataset.tau=1"]) == []
    assert refused("method=mf", "teacher=local")[0].startswith("teacher=local: this job's methods (mf, means)")


def test_what_a_strategy_does_not_read_is_refused() -> None:
    assert refused("strategy=onestep", "experts.predictor.lr=1e-3") == [
        "experts.predictor.lr=1e-3: this strategy has no predictor, it mounts summarizer, reward_model, onestep; "
        "drop the override"
    ]
    assert "without reasons" in refused("strategy=without_step2", "reason_source=history")[0]
    assert preflight(["strategy=onestep", "experts.onestep.lr=1e-3"])


@pytest.mark.parametrize("chosen", [["strategy=without_step1"], ["experiment=real_reviews", "teacher=server"]])
def test_a_strategy_in_the_place_of_the_methods_own_is_refused(chosen: list[str]) -> None:
    with pytest.raises(
        ConfigError, match="strategy=without_step1: method=without_reason is Reason4Rec with strategy=w"
    ):
        validate(composed("method=without_reason", *chosen), classes=False)
    assert validate(composed("method=without_reason", "strategy=without_step2"), classes=False)


@pytest.mark.parametrize("method", ["dpo", "best_of_n"])
def test_an_objective_in_the_place_of_the_strategys_own_is_refused(method: str) -> None:
    with pytest.raises(ConfigError, match=rf"reasoner\.objective=grpo: strategy={method} learns by {method}"):
        validate(composed(f"method={method}", "recipe=paper_grpo"), classes=False)
    config = validate(composed("method=grpo", "recipe=paper_grpo"), classes=False)
    assert (config.strategy.label, config.experts["reasoner"]["objective"]["kl"]) == ("Reason4Rec, GRPO", 0.01)


def test_an_expert_that_the_method_does_not_train_is_refused() -> None:
    assert "train no reasoner" in refused("method=rec_saver", "experts.reasoner.lr=1e-3")[0]
    assert preflight(["method=rec_saver", "experts.rec_saver.lr=1e-3"])
    assert preflight(["method=reward_check", "experts.reward_model.lr=1e-3"])


def test_settings_of_experts_that_the_strategy_does_not_mount_are_left_out() -> None:
    assert set(validate(composed("strategy=cot", "recipe=small")).experts) == {"summarizer", "reward_model", "cot"}
