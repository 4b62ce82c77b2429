"""A row takes only records whose settings are the preset's; whatever else was run is told apart and fills no cell."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from report_records import LOADER, record, runs, write

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose
from r4r.configuration.construct import construct
from r4r.configuration.kinds import strangers
from r4r.errors import DataError
from r4r.report import cli
from r4r.report.blocks import blocks
from r4r.report.candidates import standing
from r4r.report.cells import Block
from r4r.report.settings import SAME_RESULT, Ask
from r4r.report.tables import TABLES
from r4r.stages.stage import Job
from r4r.store.artifact import Store

OURS = {"Reason4Rec": (0.5, 0.7), "MF": (0.6, 0.8)}
SWAP = "expert@experts.reasoner=cot"


def block(table: str, *records: dict[str, Any], ask: Ask = Ask()) -> Block:  # noqa: B008
    [made], _ = blocks(TABLES[table], runs(*records), ask)
    return made


def values(made: Block) -> dict[str, float]:
    return {cell.row.name: cell.over_seeds("mae")[0] for cell in made.cells if cell.results}


def variants(made: Block) -> dict[str, set[str]]:
    return {cell.row.name: set(beyond) for cell, beyond in made.variants}


# settings of a row


@pytest.mark.parametrize(
    ("given", "differs"),
    [
        (("method.dim=2", "method.max_epochs=1"), {"method.dim", "method.max_epochs"}),
        (("method.lr=0.02",), {"method.lr"}),
    ],
)
def test_a_baseline_with_other_settings_takes_no_cell(given: tuple[str, ...], differs: set[str]) -> None:
    other = record({"MF": (0.1, 0.1)}, method="mf", given=given, started="2027-01-01T00:00:00+00:00")
    made = block("table2", record(OURS), other)
    assert values(made)["MF"] == 0.6
    assert variants(made) == {"MF": differs}
    with pytest.raises(ValueError, match="not enough values"):
        block("table2", other)


OTHERS = {
    "experts.reasoner._target_": SWAP,
    "experts.reasoner.lora.r": "experts.reasoner.lora.r=2",
    "experts.summarizer.max_new_tokens": "experts.summarizer.max_new_tokens=9",
    "reason_source.max_hinted": "reason_source.max_hinted=1",
    "dataset.history.prompt": "dataset.history.prompt=1",
    "dataset.evaluate.max_rows": "++dataset.evaluate.max_rows=8",
    "llm.max_length": "llm.max_length=1024",
    "teacher.skill": "++teacher.skill=0.5",
    "recipe": "recipe=paper",
    "llm": "llm=tiny",
}


def test_a_job_with_other_settings_is_no_result_of_reason4rec() -> None:
    """Beside the preset's own, whatever is newer."""
    newer = "2027-01-01T00:00:00+00:00"
    others = [record({"Reason4Rec": (0.1, 0.1)}, given=(given,), started=newer) for given in OTHERS.values()]
    made = block("table2", record(OURS), record({"MF": (0.6, 0.8)}, method="mf"), *others)
    assert values(made)["Reason4Rec"] == 0.5
    told = [set(beyond) for _, beyond in made.variants]
    assert len(told) == len(OTHERS)
    for differs, found in zip(OTHERS, told, strict=True):
        assert differs in found


def test_an_expert_swap_alone_does_not_become_the_row(tmp_path: Path) -> None:
    write(tmp_path / "runs", record({"Reason4Rec": (0.1, 0.1)}, given=(SWAP,)))
    with pytest.raises(
        DataError, match=r"no record of a job of table2 .* Reason4Rec with experts\.reasoner\._target_="
    ):
        cli.report(["table2", "--records", str(tmp_path), "--out", str(tmp_path)])
    assert not (tmp_path / "table2.md").exists()


def test_a_reference_with_other_settings_takes_no_cell() -> None:
    other = record({"Reason4Rec": (0.5, 0.7), "MF": (0.1, 0.1)}, given=("references.mf.dim=2",))
    made = block("table2", other)
    assert "MF" not in values(made)
    assert variants(made) == {"MF": {"method.dim"}}


def test_what_changes_no_result_makes_no_difference() -> None:
    given = (
        "trainer=cpu",
        "logger=none",
        "llm.batch_tokens=99",
        "++dataset.memory_limit=1GB",
        "name=mine",
        "timing=paper",
    )
    made = block("table2", record({"Reason4Rec": (0.4, 0.7)}, given=given))
    assert values(made)["Reason4Rec"] == 0.4
    assert not made.variants
    assert not made.setting


CHANGED: dict[str, Any] = {
    **dict.fromkeys(("dataset.name", "llm.name"), "other"),
    "dataset.memory_limit": "1GB",
    **dict.fromkeys(("dataset.reviews_url", "dataset.meta_url"), "http://localhost/x"),
    **dict.fromkeys(("llm.batch_tokens", "teacher.batch_tokens"), 128),
    "llm.prefix_gb": 1.0,
    "llm.merge_adapters": False,
    "llm.cuda_graphs": False,
    "llm.gradient_checkpointing": True,
    "llm.engine": "vllm",
    "llm.vllm": {"unit_rows": 7},
    "teacher.base_url": "http://localhost:8000/v1",
    "teacher.key_env": "KEY",
    "teacher.token_limit_field": "max_completion_tokens",
    "teacher.retry_failures": True,
    "teacher.prices": {"m": {"input": 1, "output": 1, "date": "2025-01"}},
    "teacher.budget_usd": None,
    **{f"teacher.{name}": 3 for name in ("concurrency", "retries", "batch_calls", "batch_mb", "timeout_s")},
    **{f"teacher.{name}": 2.5 for name in ("backoff_s", "max_wait_s", "batch_poll_s")},
    **{f"teacher.{name}": 9.0 for name in ("requests_per_minute", "tokens_per_minute")},
    "teacher.max_failed_share": 0.5,
    "teacher.max_empty_share": 0.5,
}


def keys(changes: dict[str, Any], tmp_path: Path, *overrides: str) -> tuple[dict[str, str], set[str]]:
    """Keys of the job's stages by name, and the changes that its kinds of teacher and data set have."""
    cfg = OmegaConf.create(OmegaConf.to_container(compose(LOADER, "config", list(overrides)), resolve=False))
    OmegaConf.set_struct(cfg, False)
    for key, value in changes.items():
        OmegaConf.update(cfg, key, value, force_add=True)
    strange = strangers(OmegaConf.to_container(cfg), ())
    for key in changes.keys() & strange.keys():
        group, _, name = key.rpartition(".")
        del OmegaConf.select(cfg, group)[name]
    config = validate(cfg)
    final = construct(config.method, "method").stages(Job(config, Store(tmp_path)))
    return {stage.name: stage.key for stage in final.upstream()}, changes.keys() - strange.keys()


def test_what_the_comparison_leaves_out_is_in_no_artifact_key(tmp_path: Path) -> None:
    left_out = {f"{group}.{name}" for group, names in SAME_RESULT.items() for name in names}
    assert set(CHANGED) == left_out
    own = tmp_path / "own.csv"
    own.write_text("a review\n", encoding="utf-8")
    data = ("dataset=custom", "dataset.name=own", "dataset.category=Music", f"dataset.reviews={own}")
    tried: set[str] = set()
    for teacher in (("openai",), ("openai_batch",), ("local", "teacher.source=tiny:"), ("openai", *data)):
        job = ("llm=tiny", f"teacher={teacher[0]}", *teacher[1:])
        plain, _ = keys({}, tmp_path, *job)
        found, fitting = keys(CHANGED, tmp_path, *job)
        assert found == plain
        tried |= fitting
        assert keys({"teacher.summary_temperature": 0.9}, tmp_path, *job)[0] != plain
    assert tried == set(CHANGED)


# what a whole sweep was given


SWEEP = ("llm=llama3_8b", "recipe=paper", "teacher=openai")


def sweep(*given: str, seeds: tuple[int, ...] = (42,), mae: float = 0.5, **more: Any) -> list[dict[str, Any]]:
    """Three rows of Table 2; one reads nothing of the base model, one asks the teacher alone."""
    made = [record({"Reason4Rec": (mae, 0.7)}, given=given, seed=seed, **more) for seed in seeds]
    made += [record({"MF": (mae + 0.1, 0.8)}, method="mf", given=given, seed=seed, **more) for seed in seeds]
    return made + [record({"Few-shot": (mae + 0.2, 0.9)}, method="fewshot", given=given, seed=s, **more) for s in seeds]


def test_choices_that_a_whole_sweep_was_given_make_its_table() -> None:
    made = block("table2", *sweep(*SWEEP, seeds=(42, 43), dataset="music"))
    assert values(made) == {"MF": 0.6, "LLM few-shot": 0.7, "Reason4Rec": 0.5}
    assert {key: value for key, (value, _) in made.setting.items()} == dict(text.split("=") for text in SWEEP)
    assert not made.variants
    assert "llm=llama3_8b (preset: smollm2_135m)" in made.notes[0]


def test_settings_below_a_choice_count_as_well() -> None:
    given = (*SWEEP, "llm.quantization=none", "++dataset.evaluate.max_rows=500")
    made = block("table2", *sweep(*given), *sweep(*SWEEP, mae=0.1)[:1])
    assert values(made)["Reason4Rec"] == 0.5
    assert made.setting["dataset.evaluate.max_rows"] == ("500", "null")
    assert variants(made)["Reason4Rec"] == {"llm.quantization", "dataset.evaluate.max_rows"}


def test_of_two_whole_sweeps_the_presets_own_stands_and_set_asks_for_the_other() -> None:
    both = [*sweep(), *sweep(*SWEEP, mae=0.3, started="2027-01-01T00:00:00+00:00")]
    made = block("table2", *both)
    assert values(made)["Reason4Rec"] == 0.5
    assert not made.setting
    asked = block("table2", *both, ask=Ask(given=SWEEP))
    assert values(asked)["Reason4Rec"] == 0.3
    assert set(variants(asked)["Reason4Rec"]) >= {"llm", "recipe", "teacher"}


def test_set_takes_any_setting_that_a_row_has(tmp_path: Path) -> None:
    given = ("experts.predictor.epochs=7",)
    write(tmp_path / "runs", record({"Reason4Rec": (0.2, 0.3)}, given=given))
    argv = ["table4", "--records", str(tmp_path / "runs"), "--out", str(tmp_path)]
    with pytest.raises(DataError, match=r"experts\.predictor\.epochs=7 \(preset: 2\)"):
        cli.report(argv)
    assert cli.report([*argv, "--set", *given]) == 0
    assert "| Reason4Rec | **0.2000 ± 0.0100 se** |" in (tmp_path / "table4.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("llm=llama3", "llm has no option 'llama3'; did you mean llama3_8b"),
        ("experts.reasoner.epoch=3", "there is no key"),
        ("method=mf", "none of control, experiment, method"),
        ("llm", "must be KEY=VALUE"),
    ],
)
def test_a_wrong_setting_is_a_sentence(setting: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.report(["table4", "--set", setting])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_the_few_shot_row_may_ask_a_teacher_of_its_own() -> None:
    few = record({"Few-shot": (0.7, 0.9)}, method="fewshot", given=("teacher=openai", "teacher.model=gpt-4o"))
    made = block("table2", record(OURS), few)
    assert values(made)["LLM few-shot"] == 0.7
    assert not made.variants


def test_options_of_the_users_own_make_a_table_too(tmp_path: Path) -> None:
    """Their folder is not at hand: they are compared among each other, and named."""
    mine = sweep("llm=tiny")
    for one in mine:
        one["choices"]["llm"] = "mine"
        one["config"]["llm"]["source"] = "path:/somewhere"
    made = block("table2", *mine)
    assert values(made) == {"MF": 0.6, "LLM few-shot": 0.7, "Reason4Rec": 0.5}
    assert "llm=mine (no option here: --config-dir names the folder of yours)" in made.notes[0]
    (tmp_path / "llm").mkdir()
    text = "name: mine\nsource: path:/somewhere\nmax_length: 512\nbatch_tokens: 4096\nsystem: ''\n"
    (tmp_path / "llm" / "mine.yaml").write_text(text, encoding="utf-8")
    known = block("table2", *mine, ask=Ask(config_dir=str(tmp_path)))
    assert known.setting["llm"] == ("mine", "world_3m")


def test_records_without_choices_are_compared_by_their_settings() -> None:
    old = record(OURS)
    del old["choices"], old["reads"]
    old["config"]["dataset"].pop("scale")  # a setting that came later
    assert values(block("table2", old))["Reason4Rec"] == 0.5


# worlds that differ by seed


def test_seeds_with_worlds_of_their_own_stand_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for seed in (42, 43, 44):
        one = record(OURS, seed=seed, split=f"split{seed}")
        one["config"]["dataset"]["world"]["seed"] = seed
        made.append(one)
    stands = standing(TABLES["table2"], runs(*made), Ask())
    assert len({one.run.seed for one in stands.chosen}) == 1  # as the preset stands, its world is one
    from r4r.report import settings

    composed = settings._composed

    def by_seed(*arguments: Any) -> Any:
        cfg = OmegaConf.create(OmegaConf.to_container(composed(*arguments), resolve=False))
        OmegaConf.update(cfg, "dataset.world.seed", "${seed}", force_add=True)
        return cfg

    monkeypatch.setattr(settings, "_composed", by_seed)
    settings._resolved.cache_clear()
    try:
        found = block("table2", *made)
    finally:
        settings._resolved.cache_clear()
    assert list(found.cell("Reason4Rec").results) == [42, 43, 44]


# nothing empty


def test_a_job_that_was_not_done_adds_no_table_and_no_row(tmp_path: Path) -> None:
    broken = [record(dataset="music", status=status) for status in ("failed", "interrupted")]
    write(tmp_path / "runs", record(OURS), *broken, record(dataset="music", method="mf"))
    found, missing = blocks(TABLES["table2"], runs(record(OURS), *broken))
    assert [one.dataset for one in found] == ["simulated"]
    assert missing[0] == "music: no record of a job of table2; run r4r -m experiment=table2 dataset=music"
    assert missing[1] == "music: the newest job was interrupted, or is still running (2/result.json)"
    for name in ("table1", "table2", "table3", "table6", "figure5"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "runs", *broken)
        with pytest.raises(DataError, match=f"no record of a job of {name}"):
            cli.report([name, "--records", str(tmp_path / name), "--out", str(tmp_path / name / "report")])
        assert not (tmp_path / name / "report").exists()


def test_a_data_set_that_was_never_prepared_is_no_line_of_table_1(tmp_path: Path) -> None:
    failed = record(status="failed") | {"dataset": "wine"}
    write(tmp_path / "runs", record(OURS), failed)
    assert cli.report(["table1", "--records", str(tmp_path / "runs"), "--out", str(tmp_path)]) == 0
    page = (tmp_path / "table1.md").read_text(encoding="utf-8")
    assert "| wine |" not in page
    assert "- wine: the newest job failed with ModelError: out of memory" in page


def test_variants_stand_apart_in_every_file(tmp_path: Path) -> None:
    other = record({"MF": (0.1, 0.1)}, method="mf", given=("method.dim=2",))
    write(tmp_path / "runs", record(OURS), other)
    assert cli.report(["table2", "--records", str(tmp_path / "runs"), "--out", str(tmp_path)]) == 0
    page = (tmp_path / "table2.md").read_text(encoding="utf-8")
    assert "## simulated: variants" in page
    assert "| MF with method.dim=2 (preset: 16) | 0.1000 ± 0.0100 se | 0.1000 ± 0.0200 se | 100 | 1 |" in page
    assert "0.1000" not in page.split("## simulated: variants")[0]
    assert "MF with method.dim=2" in (tmp_path / "table2.tex").read_text(encoding="utf-8")
    assert "MF,variant,method.dim=2" in (tmp_path / "table2.csv").read_text(encoding="utf-8")
