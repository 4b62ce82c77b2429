"""A job's record: what it says of the job's choices and costs, and what is left where the disk is full."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plain_stage import plain_stage

from r4r import records
from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.schema import Config
from r4r.errors import R4RError
from r4r.pipeline.stage import Stage
from r4r.records import cost, recording
from r4r.stages.stage import Job
from r4r.store.artifact import Store
from r4r.summary import cost_line

LOADER = make_loader()
FULL = OSError(errno.ENOSPC, "No space left on device", "/data/x")
SMALL = ["dataset.world.users=20", "dataset.world.items=10", "logger=none", "trainer=cpu", "method.max_epochs=3"]


@pytest.fixture(scope="module")
def config() -> Config:
    return validate(compose(LOADER, "config", ["method=mf"]))


def read(folder: Path) -> dict[str, Any]:
    [path] = folder.iterdir()  # and nothing beside it
    return json.loads(path.read_text(encoding="utf-8"))


# a full disk


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("[enforce fail] . PytorchStreamWriter failed writing file data/0: file write failed"),
        ValueError('IO Error: Could not write file "/data/x": No space left on device'),  # as DuckDB says it
    ],
)
def test_a_full_disk_is_told_in_the_record_and_in_a_sentence(config: Config, tmp_path: Path, error: Exception) -> None:
    with pytest.raises(R4RError, match=r"the disk is full.*run the same command again"), recording(config, tmp_path):
        raise error
    made = read(tmp_path)
    assert made["status"] == "failed"
    assert made["error"]["kind"] == type(error).__name__
    assert "the disk is full" in made["error"]["message"]


@pytest.mark.parametrize("job", ["failed", "done"])
def test_the_last_word_goes_into_the_first_records_room(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    """From some moment on nothing can be written that takes room; what had its room can still be written over."""

    def full(path: Path, value: Any) -> None:
        path.with_name(path.name + ".tmp").touch()
        raise FULL

    rooms = []

    def run() -> None:
        with recording(config, tmp_path) as record:
            rooms.append((tmp_path / "result.json").stat().st_size)
            monkeypatch.setattr(records, "write_json", full)
            record |= {"metrics": ["much"] * 10_000, "artifacts": {"split": "0" * 16}}
            if job == "failed":
                raise FULL

    with pytest.raises(R4RError, match=r"No space left on device.*run the same command again"):
        run()
    assert (tmp_path / "result.json").stat().st_size == rooms[0]
    made = read(tmp_path)
    assert (made["status"], made["error"]["kind"]) == ("failed", "OSError")
    assert "No space left on device" in made["error"]["message"]
    assert made["config"] == config.model_dump(mode="json")
    assert made["artifacts"] == {"split": "0" * 16}


def test_where_no_record_can_be_written_the_job_does_not_start(config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(R4RError, match="no record can be written there"), recording(config, tmp_path / "file"):
        pytest.fail("it started")


def test_another_error_stays_as_it_is(config: Config, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="permission"), recording(config, tmp_path):
        raise OSError(errno.EACCES, "permission")
    assert "disk" not in read(tmp_path)["error"]["message"]


# choices


def test_a_record_holds_each_groups_choice_and_what_its_methods_read(
    r4r: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R4R_OUTPUTS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert (
        r4r("-m", "experiment=[table2,smoke]", "method=mf", "dataset=simulated", "seed=42", "target=split", *SMALL) == 0
    )
    [path] = tmp_path.rglob("result.json")
    made = json.loads(path.read_text(encoding="utf-8"))
    wanted = {
        "experiment": ["table2", "smoke"],
        "llm": "tiny",
        "method": "mf",
        "method@references.means": "means",
        "expert@experts.reasoner": "reasoner",
        "recipe": "small",
    }
    assert {group: made["choices"][group] for group in wanted} == wanted
    assert made["reads"] == {"method": ["dataset"], "references": {"means": ["dataset"], "mf": ["dataset"]}}


@pytest.mark.parametrize(
    ("method", "reads"),
    [
        ("reason4rec", ["control", "dataset", "experts", "llm", "reason_source", "strategy", "teacher"]),
        (
            "exp3rt",
            ["dataset"]
            + [f"experts.exp3rt{task}" for task in ("", "_item_profile", "_preferences", "_user_profile")]
            + ["llm", "teacher"],
        ),
    ],
)
def test_a_method_reads_the_experts_that_it_trains(method: str, reads: list[str], tmp_path: Path) -> None:
    made = validate(compose(LOADER, "config", [f"method={method}"]))
    with recording(made, tmp_path) as record:
        assert record["reads"]["method"] == reads


# cost


def test_the_cost_counts_the_tokens_that_were_trained_on(config: Config, tmp_path: Path) -> None:
    def build(name: str, facts: dict[str, Any], inputs: dict[str, Stage]) -> Stage:
        return plain_stage(name, lambda work: facts, inputs)

    trained = build("train/predictor", {"train_tokens": 900}, {})
    rated = build("predict/test", {"tokens_in": 30, "tokens_out": 5}, {"predictor": trained})
    Job(config, Store(tmp_path)).materialize(trained)
    job = Job(config, Store(tmp_path))
    job.materialize(rated)
    found = cost(job, rated)
    assert [found[whose]["train_tokens"] for whose in ("total", "this_job")] == [900, 0]
    assert cost_line(found).startswith("tokens: 900 trained on, 30 read, 5 written in ")
    assert "by this job: 0 trained on, 30 read, 5 written in " in cost_line(found)
