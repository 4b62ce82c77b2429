"""Artifacts: a key names all that matters, a build survives a kill, and no artifact is made twice."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plain_stage import plain_stage

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.schema import Config
from r4r.errors import ConfigError, DataError
from r4r.pipeline.stage import Stage
from r4r.rows import SUMMARIES
from r4r.stages.deliberation import predictions_stage
from r4r.stages.stage import Job, Work
from r4r.store.artifact import MANIFEST, Artifact, Store, write_table
from r4r.store.inventory import entries
from r4r.store.journal import Journal
from r4r.store.key import key_of

LOADER = make_loader()
OTHER_MODEL = ["llm.source=hub:some/model", f"++llm.revision={'0' * 40}"]
GOLDEN = Path(__file__).parent / "golden" / "keys.json"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def configured(*overrides: str) -> Config:
    return validate(compose(LOADER, "config", ["llm=tiny", *overrides]))


def keys(config: Config) -> dict[str, str]:
    return {stage.name: stage.key for stage in predictions_stage(config).upstream()}


# keys


def test_a_key_is_the_same_on_every_machine() -> None:
    assert key_of("split", 1, {"k_core": 5, "título": [1, 2.5, None]}, {"raw": "ab"}) == "5f67157b4543ec4f"


@pytest.mark.parametrize(
    "other",
    [
        ("pools", 1, {"a": 1, "b": {"c": 2}}, {"in": "k"}),
        ("split", 2, {"a": 1, "b": {"c": 2}}, {"in": "k"}),
        ("split", 1, {"a": 2, "b": {"c": 2}}, {"in": "k"}),
        ("split", 1, {"a": 1, "b": {"c": 3}}, {"in": "k"}),
        ("split", 1, {"a": 1, "b": {"d": 2}}, {"in": "k"}),
        ("split", 1, {"a": "1", "b": {"c": 2}}, {"in": "k"}),
        ("split", 1, {"a": 1}, {"in": "k"}),
        ("split", 1, {"a": 1, "b": {"c": 2}}, {"in": "l"}),
        ("split", 1, {"a": 1, "b": {"c": 2}}, {"on": "k"}),
        ("split", 1, {"a": 1, "b": {"c": 2}}, {}),
    ],
)
def test_every_part_of_an_identity_matters(other: tuple[str, int, dict[str, Any], dict[str, str]]) -> None:
    assert key_of(*other) != key_of("split", 1, {"a": 1, "b": {"c": 2}}, {"in": "k"})


def test_the_order_of_settings_does_not_matter() -> None:
    assert key_of("s", 1, {"a": 1, "b": 2}, {"x": "1", "y": "2"}) == key_of(
        "s", 1, {"b": 2, "a": 1}, {"y": "2", "x": "1"}
    )


def test_the_keys_of_the_default_job_are_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Artifacts of earlier versions stay valid as long as this holds.

    A key may change only where the stage's output changes: a prompt, a default setting, or a bumped VERSION. Then
    write the new keys (this test shows them) into golden/keys.json in the same change. A key that changes for another
    reason (a setting that does not affect the output got into it) makes everyone build again for nothing.
    """
    monkeypatch.setattr("r4r.pipeline.stage.source_identity", lambda thing: {})  # of a checkout that is worked on
    monkeypatch.setattr("r4r.pipeline.stage.source_of", lambda target: {})
    found = keys(configured())
    assert found == json.loads(GOLDEN.read_text(encoding="utf-8")), json.dumps(found, indent=2)


@pytest.mark.parametrize(
    "override",
    [
        "paths.outputs=elsewhere",
        "trainer=cpu",
        "++trainer.micro_batch_tokens=64",
        "logger=none",
        "++llm.batch_tokens=64",
    ],
)
def test_what_does_not_change_an_output_is_in_no_key(override: str) -> None:
    assert keys(configured(override)) == keys(configured())


def test_no_reason_is_the_method_without_step_2() -> None:
    """Table 4's first row and a bar of Figure 3 are one job."""
    assert keys(configured("reason_source=none")) == keys(configured("strategy=without_step2"))


REASONED = {"write/reasoner/experts", "write/reasoner/test", "train/predictor.lessons", "train/predictor"}


@pytest.mark.parametrize(
    ("override", "rebuilt"),
    [
        ("reason_source=history", {"reasons", "train/reasoner.lessons", "train/reasoner"} | REASONED),
        ("experts.predictor.lr=1", {"train/predictor"}),
        ("experts.reasoner.max_new_tokens=9", REASONED),
        ("experts.reasoner.lr=1", {"train/reasoner"} | REASONED),
    ],
)
def test_a_change_rebuilds_what_lies_behind_it_and_nothing_before(override: str, rebuilt: set[str]) -> None:
    before, after = keys(configured()), keys(configured(override))
    assert {name for name in after if after[name] != before.get(name)} == {*rebuilt, "predict/test"}


@pytest.mark.parametrize(
    "overrides",
    [[], ["reason_source=review"], ["reason_source=review_inferred"]]
    + [["strategy=without_step1", f"reason_source={source}"] for source in ("history", "hint")],
)
def test_another_tokenizer_cuts_reviews_elsewhere_and_so_rebuilds_what_shows_them(overrides: list[str]) -> None:
    one, other = keys(configured(*overrides)), keys(configured(*overrides, *OTHER_MODEL))
    shown = {"teacher_summaries", "reasons"} & set(one)
    assert shown
    assert all(one[name] != other[name] for name in shown)
    assert {name for name in one if one[name] == other[name]} <= {"split", "pools"}


# the journal


@settings(max_examples=60)
@given(
    units=st.lists(
        st.lists(st.dictionaries(st.text(max_size=4), JSON, max_size=3), max_size=3), min_size=1, max_size=4
    ),
    data=st.data(),
)
def test_a_line_cut_short_costs_its_own_unit_alone(
    tmp_path_factory: pytest.TempPathFactory, units: list[list[dict[str, Any]]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("journal") / "rows.jsonl"
    journal = Journal(path)
    sizes = []
    for number, rows in enumerate(units):
        sizes.append(path.stat().st_size if path.exists() else 0)
        journal.append(str(number), rows)
    assert Journal(path).rows() == journal.rows() == [row for rows in units for row in rows]
    cut = data.draw(st.integers(sizes[-1], path.stat().st_size - 1))
    path.write_bytes(path.read_bytes()[:cut])

    again = Journal(path)
    assert len(again) == len(units) - 1
    assert str(len(units) - 1) not in again
    assert again.rows() == [row for rows in units[:-1] for row in rows]
    again.append(str(len(units) - 1), units[-1])
    assert Journal(path).rows() == journal.rows()


# the store


FACTS = st.dictionaries(st.integers() | st.text(), JSON | st.dictionaries(st.integers(), JSON, max_size=15), max_size=4)


@settings(max_examples=30)
@given(FACTS)
@example({"by_attempt": {attempt: {"accepted": 1} for attempt in range(12)}})  # as text, 10 comes before 2
def test_whatever_a_stage_tells_of_its_work_the_artifact_is_whole(tmp_path_factory: Any, facts: Any) -> None:
    folder = tmp_path_factory.mktemp("store")
    Store(folder).complete("reasons", "k", {}, facts)
    assert Store(folder).find("reasons", "k") is not None


def test_a_folder_without_manifest_is_no_artifact(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.find("split", "k") is None
    store.workspace("split", "k")
    assert store.find("split", "k") is None
    folder = store.path("split", "k")
    folder.mkdir(parents=True)
    (folder / "data.parquet").write_bytes(b"half")
    assert store.find("split", "k") is None
    store.complete("split", "k", {"a": 1}, {"rows": 2})
    found = store.find("split", "k")
    assert found is not None
    assert found.manifest["rows"] == 2
    assert sorted(path.name for path in found.path.iterdir()) == ["config.yaml", MANIFEST]


def test_a_table_is_checked_when_written_and_when_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    work = store.workspace("summaries", "k")
    write_table(work / "data.parquet", pd.DataFrame({"summary": ["a"], "row_id": [3], "extra": [0]}), SUMMARIES)
    artifact = store.complete("summaries", "k", {}, {})
    assert artifact.table(SUMMARIES).to_dict("list") == {"row_id": [3], "summary": ["a"]}
    with pytest.raises(DataError, match="columns missing: summary"):
        write_table(tmp_path / "x.parquet", pd.DataFrame({"row_id": [3]}), SUMMARIES)


def counting_stage(started: list[float], fail: bool = False) -> tuple[Stage, Stage]:
    """A stage and its input, which note when they are built."""

    def build(work: Work) -> dict[str, Any]:
        left = work.folder / "left.txt"
        resumed = left.exists()
        left.write_text("part")
        started.append(time.monotonic())
        if fail:
            raise RuntimeError("killed")
        time.sleep(0.2)
        return {"resumed": resumed, "read": {name: a.manifest["key"] for name, a in work.inputs.items()}}

    first = plain_stage("before", build, a=1)
    return plain_stage("after", build, {"it": first}), first


def test_two_jobs_at_once_build_a_stage_once(tmp_path: Path) -> None:
    started: list[float] = []
    after, before = counting_stage(started)
    config = configured()
    jobs = [Job(config, Store(tmp_path)) for _ in range(3)]
    gate = threading.Barrier(len(jobs))
    found: list[Path] = []

    def run(job: Job) -> None:
        gate.wait()
        found.append(job.materialize(after).path)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [Store(tmp_path).path("after", after.key)] * 3
    assert len(started) == 2, "one build of each of the two stages"
    assert sorted(name for job in jobs for name, _ in job.built) == ["after", "before"]
    manifest = jobs[0].materialize(after).manifest
    assert manifest["read"] == {"before.it": before.key} == manifest["inputs"]
    assert manifest["versions"]["torch"]
    assert Job(config, Store(tmp_path)).materialize(after).path == found[0]
    assert len(started) == 2


def test_a_failed_build_leaves_no_artifact_and_is_taken_up(tmp_path: Path) -> None:
    started: list[float] = []
    job = Job(configured(), Store(tmp_path))
    _, before = counting_stage(started, fail=True)
    with pytest.raises(RuntimeError, match="killed"):
        job.materialize(before)
    assert job.store.find("before", before.key) is None
    _, whole = counting_stage(started)
    assert job.materialize(whole).manifest["resumed"] is True


def test_a_build_that_returns_no_facts_is_a_sentence(tmp_path: Path) -> None:
    def build(work: Work) -> None:
        """Ends without a return, as is soon done."""

    job, stage = Job(configured(), Store(tmp_path)), plain_stage("forgot", build)  # type: ignore[arg-type]
    told = r"plain_stage\.Plain\.build, for the stage forgot: returned None; it should return a dictionary of facts"
    with pytest.raises(DataError, match=told):
        job.materialize(stage)
    assert job.store.find("forgot", stage.key) is None


def test_the_lock_of_a_killed_process_is_free_again(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom r4r.store.artifact import Store\n"
        "with Store(Path(sys.argv[1])).locked('split', 'k'):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        waited: list[float] = []

        def waiting() -> None:
            waited.append(time.monotonic())
            holder.kill()

        with Store(tmp_path).locked("split", "k", waiting):
            assert len(waited) == 1


def made(store: Store) -> Artifact:
    with store.locked("train/x", "k"):
        work = store.workspace("train/x", "k")
        (work / "adapter").mkdir(mode=0o700)
        (work / "adapter" / "weights").write_bytes(b"w" * 100)
        (work / "adapter" / "weights").chmod(0o600)
        (work / "facts.json").write_text("{}")
        return store.complete("train/x", "k", {"a": 1}, {"rows": 2})


def edit_manifest(folder: Path, **values: Any) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | values))


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "weights has 50 bytes": lambda folder: os.truncate(folder / "adapter" / "weights", 50),
    "the content of adapter/weights": lambda folder: flip(folder / "adapter" / "weights"),
    "adapter/weights is missing": lambda folder: (folder / "adapter" / "weights").unlink(),
    "facts.json is missing": lambda folder: (folder / "facts.json").unlink(),
    "config.yaml": lambda folder: flip(folder / "config.yaml"),
    "adapter/other is not of it": lambda folder: (folder / "adapter" / "other").write_bytes(b"x"),
    "it has no manifest.json": lambda folder: (folder / MANIFEST).unlink(),
    "manifest.json cannot be read": lambda folder: os.truncate(folder / MANIFEST, 30),
    "is not as it was written": lambda folder: edit_manifest(folder, rows=3),
    "manifest.json is not": lambda folder: (folder / MANIFEST).write_text("[1]"),
}


@pytest.mark.parametrize("told", DAMAGES)
def test_a_damaged_artifact_is_named_set_aside_and_built_anew(
    tmp_path: Path, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[float] = []
    stage = plain_stage("before", adapter_build(started))
    store = Store(tmp_path)
    path = Job(configured(), store).materialize(stage).path
    DAMAGES[told](path)
    damage = store.damage(stage.name, stage.key)
    assert damage is not None
    assert told in damage
    assert store.find(stage.name, stage.key) is None
    again = Job(configured(), store).materialize(stage)
    assert len(started) == 2
    assert "damaged: before" in capsys.readouterr().err
    assert store.damage(stage.name, stage.key, whole=True) is None
    assert sorted(entry.name for entry in path.parent.iterdir()) == [stage.key, f"{stage.key}.damaged-1"]
    assert (again.path / "adapter" / "weights").read_bytes() == b"w" * 100


def adapter_build(started: list[float]) -> Callable[[Work], dict[str, Any]]:
    def build(work: Work) -> dict[str, Any]:
        started.append(time.monotonic())
        (work.folder / "adapter").mkdir(exist_ok=True)
        (work.folder / "adapter" / "weights").write_bytes(b"w" * 100)
        (work.folder / "facts.json").write_text("{}")
        return {"rows": 2}

    return build


def test_another_experts_adapter_in_an_artifacts_place_is_noticed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = made(store)
    os.rename(artifact.path, store.path("train/x", "other"))
    assert store.damage("train/x", "other") == "it is that of train/x k"


def test_large_files_are_read_at_their_first_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r4r.store.artifact.LARGE", 50)
    store = Store(tmp_path)
    weights = made(store).path / "adapter" / "weights"
    flip(weights)
    assert store.find("train/x", "k") is not None
    assert store.damage("train/x", "k", whole=True) == "the content of adapter/weights is not what was written"


def test_files_have_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    artifact = made(Store(tmp_path))
    (tmp_path / "plain").touch()
    (tmp_path / "folder").mkdir()
    wanted = [(tmp_path / name).stat().st_mode for name in ("plain", "folder")]
    entries = [artifact.path, *artifact.path.rglob("*")]
    assert {entry.stat().st_mode for entry in entries} == set(wanted)


def test_whoever_waits_for_a_lock_that_is_removed_does_not_share_it(tmp_path: Path) -> None:
    """Six jobs take the same lock again and again, each removing the file: never two at once, and nothing is left."""
    inside: list[int] = []

    def run() -> None:
        for _ in range(40):
            with Store(tmp_path).locked("split", "k"):
                inside.append(1)
                assert len(inside) == 1
                time.sleep(0)
                inside.pop()

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(run) for _ in range(6)]:
            done.result()
    assert list((tmp_path / "split").iterdir()) == []


@pytest.mark.parametrize(
    "line",
    [
        "null",
        "[]",
        "3",
        '{"unit": "1"}',
        '{"unit": "1", "rows": 3, "sha256": "0"}',
        "{",
        '{"unit": "1", "rows": [{"a": 2}], "sha256": "b16e"}',
        "\x00" * 9,
    ],
)
def test_a_damaged_journal_line_costs_its_unit_and_is_kept_aside(
    tmp_path: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "k.partial").mkdir()
    path = tmp_path / "k.partial" / "rows.jsonl"
    for number in range(3):
        Journal(path).append(str(number), [{"a": number}])
    lines = path.read_text().splitlines()
    lines[1] = line
    path.write_text("\n".join(lines) + "\n")
    damaged = path.read_text()
    journal = Journal(path)
    assert [unit in journal for unit in "012"] == [True, False, True]
    assert "damaged lines (2)" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "k.partial.rows.jsonl.damaged").read_text() == damaged
    journal.append("1", [{"a": 1}])
    assert sorted(row["a"] for row in Journal(path).rows()) == [0, 1, 2]


def test_a_job_that_takes_up_an_artifact_makes_it_young(tmp_path: Path) -> None:
    """So that nothing is collected under a job that runs, or was killed: it has left no record of what it uses."""
    stage = plain_stage("one")
    first = Job(configured(), Store(tmp_path)).materialize(stage)
    for path in [first.path, *first.path.rglob("*")]:
        os.utime(path, (0, 0))
    [old] = [entry for entry in entries(tmp_path) if entry.state == "whole"]
    assert old.age() > 7
    Job(configured(), Store(tmp_path)).materialize(stage)
    assert old.age() < 1


@pytest.mark.parametrize("stage", ["predict/../../x", "/tmp/x", "predict/", "predict//x", ".hidden", "a b"])
def test_an_artifact_lies_below_its_store(stage: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot name a stage"):
        Store(tmp_path).path(stage, "key")
