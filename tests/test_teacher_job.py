"""Whole jobs with a teacher behind an address: what they leave, how they stop, what they cost, what they never tell."""

import json
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from teacher_server import TeacherServer

from r4r.configuration.preflight import preflight
from r4r.configuration.schema import Config
from r4r.configuration.teachers import KINDS
from r4r.errors import ConfigError
from r4r.lm import rate
from r4r.lm.base import LanguageModel
from r4r.lm.cache import forward_prefix
from r4r.stages.ask import groups
from r4r.teacher.base import Answer, Call
from r4r.teacher.simulator import SimulatedTeacher

KEY = "sk-canary-0123456789abcdef"
SMOKE = ["experiment=smoke", "teacher.backoff_s=0.01", "teacher.retries=1", "teacher.timeout_s=20"]
PRICES = "+teacher.prices={sim: {input: 1000, output: 2000, date: today}}"
SUMMARIES = [*SMOKE, "target=teacher_summaries", "dataset.pools.summaries=40"]


def simulated(prompt: str, attempt: int) -> str:
    (answer,) = SimulatedTeacher(0.85, 42).ask([Call(prompt, 0.5, 400, attempt)])
    assert isinstance(answer, Answer)
    return answer.text


@pytest.fixture
def server() -> Iterator[TeacherServer]:
    with TeacherServer(answer=simulated) as server:
        yield server


@pytest.fixture(autouse=True)
def outputs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model_cache: Path) -> Path:
    monkeypatch.setenv("R4R_OUTPUTS", str(tmp_path / "out"))
    monkeypatch.setenv("R4R_CACHE", str(model_cache))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "out"


def at(server: TeacherServer, kind: str = "server") -> list[str]:
    return [f"teacher={kind}", "teacher.model=sim", f"teacher.base_url={server.url}"]


def last_record(outputs: Path) -> dict[str, Any]:
    path = max(outputs.rglob("result.json"), key=lambda path: path.stat().st_mtime_ns)
    return json.loads(path.read_text(encoding="utf-8"))


def artifact(outputs: Path, stage: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    (path,) = (outputs / "artifacts" / stage).rglob("manifest.json")
    return pd.read_parquet(path.parent / "data.parquet"), json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.usefixtures("pictures")
def test_a_whole_job_is_in_shape_what_the_simulator_gives(
    r4r: Any,
    server: TeacherServer,
    outputs: Path,
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
    store_of_a_finished_job: Callable[[Path], None],
) -> None:
    assert r4r(*SMOKE, *at(server), PRICES) == 0
    printed = capsys.readouterr().out
    remote = last_record(outputs)
    store_of_a_finished_job(tmp_path / "simulated")
    monkeypatch.setenv("R4R_OUTPUTS", str(tmp_path / "simulated"))
    assert r4r("experiment=smoke") == 0
    local = last_record(tmp_path / "simulated")
    assert remote["artifacts"].keys() == local["artifacts"].keys()
    assert [(m["label"], m["decoding"], m["n"]) for m in remote["metrics"] if m["decoding"] == "mean"] == [
        (m["label"], m["decoding"], m["n"]) for m in local["metrics"] if m["decoding"] == "mean"
    ]
    same, other = ("split", "pools"), ("teacher_summaries", "train/summarizer", "reasons")
    assert all(remote["artifacts"][stage] == local["artifacts"][stage] for stage in same)
    assert all(remote["artifacts"][stage] != local["artifacts"][stage] for stage in other)
    for stage in ("teacher_summaries", "predict/test"):
        one, two = artifact(outputs, stage)[0], artifact(tmp_path / "simulated", stage)[0]
        assert list(one.columns) == list(two.columns)
        assert list(one["row_id"]) == list(two["row_id"])
    # money: what the server counted is what the manifests and the record say
    dollars = (server.log.tokens_in * 1000 + server.log.tokens_out * 2000) / 1e6
    cost = remote["cost"]
    for part in (cost["total"], cost["this_job"]):
        assert part["teacher_calls"] == sum(server.log.completed.values())
        assert part["teacher_cached"] == 0
        assert (part["teacher_tokens_in"], part["teacher_tokens_out"]) == (server.log.tokens_in, server.log.tokens_out)
        assert part["dollars"] == pytest.approx(dollars)
    manifests = [artifact(outputs, stage)[1] for stage in ("teacher_summaries", "reasons")]
    assert sum(manifest["dollars"] for manifest in manifests) == pytest.approx(dollars)
    assert f"teacher: {cost['total']['teacher_calls']} calls (0 from the cache)" in printed
    assert f"this job asked {cost['total']['teacher_calls']} and paid ${dollars:.4f}" in printed
    assert local["cost"]["total"]["dollars"] == 0
    # what it found, in words and in a picture
    told = [found["kind"] for found in remote["findings"]]
    assert told == ["against_baseline"] * 3 + ["summaries", "filter", "reasons"]
    assert all(" ".join(found["sentence"].split()) in " ".join(printed.split()) for found in remote["findings"])
    drawn = [*outputs.rglob("result.png"), *outputs.rglob("acceptance.png")]
    assert [path.stat().st_size > 1000 for path in drawn] == [True, True]
    trained = artifact(outputs, "train/predictor.lessons")[0]
    assert remote["training_pairs"]["Reason4Rec"] == len(trained)
    assert remote["training_pairs"]["MF"] == (artifact(outputs, "split")[0]["split"] == "train").sum()


def test_lost_artifacts_are_built_again_without_paying_again(r4r: Any, server: TeacherServer, outputs: Path) -> None:
    assert r4r(*SUMMARIES, *at(server, "openai"), PRICES) == 0
    table, manifest = artifact(outputs, "teacher_summaries")
    completed = server.log.completed.copy()
    shutil.rmtree(outputs / "artifacts")
    assert r4r(*SUMMARIES, *at(server, "openai_batch"), PRICES) == 0  # the same teacher, cheaper
    again, manifest_again = artifact(outputs, "teacher_summaries")
    pd.testing.assert_frame_equal(table, again)
    assert manifest_again["key"] == manifest["key"]
    assert server.log.completed == completed
    assert server.log.batches == {}
    assert manifest_again["teacher_cached"] == manifest_again["teacher_calls"] == 40
    assert manifest_again["dollars"] == manifest["dollars"] > 0


def test_a_job_by_batches(r4r: Any, server: TeacherServer, outputs: Path) -> None:
    assert r4r(*SUMMARIES, *at(server, "openai_batch"), PRICES, "teacher.batch_poll_s=0.05") == 0
    table, manifest = artifact(outputs, "teacher_summaries")
    assert len(server.log.batches) == 1  # all calls of the stage in one
    assert len(table) + sum(manifest["dropped"].values()) == 40
    assert manifest["teacher_tokens_in"] == server.log.tokens_in > 0


def test_an_outage_stops_the_job_and_drops_no_row(r4r: Any, server: TeacherServer, outputs: Path, capsys: Any) -> None:
    def mortal(prompt: str, attempt: int) -> str:
        server.down = sum(server.log.completed.values()) >= 20
        return simulated(prompt, attempt)

    server.answer = mortal
    assert r4r(*SUMMARIES, *at(server), "teacher.concurrency=1") == 1
    said = capsys.readouterr().err
    assert "r4r: the teacher at http://127.0.0.1" in said
    assert "run the same command again" in said
    assert "Traceback" not in said
    assert last_record(outputs)["error"]["kind"] == "TeacherUnavailable"
    assert not list((outputs / "artifacts" / "teacher_summaries").rglob("manifest.json"))
    (journal,) = (outputs / "artifacts" / "teacher_summaries").rglob("rows.jsonl")
    assert "HTTP 503" not in journal.read_text()
    server.down, server.answer = False, simulated
    assert r4r(*SUMMARIES, *at(server), "teacher.concurrency=7") == 0  # other groups than before, same rows
    table, manifest = artifact(outputs, "teacher_summaries")
    assert set(server.log.completed.values()) == {1}
    assert manifest["teacher_calls"] == 40
    assert manifest["teacher_tokens_in"] == server.log.tokens_in
    assert len(set(table["row_id"])) == len(table) == 40 - sum(manifest["dropped"].values())


def test_too_many_failures_stop_the_job(r4r: Any, server: TeacherServer, outputs: Path, capsys: Any) -> None:
    server.answer = lambda prompt, attempt: "" if zlib.crc32(prompt.encode()) % 2 else simulated(prompt, attempt)
    assert r4r(*SUMMARIES, *at(server)) == 1
    assert "more than teacher.max_failed_share=0.2 allows; lately: came back empty" in capsys.readouterr().err
    assert r4r(*SUMMARIES, *at(server), "teacher.max_failed_share=1") == 0
    table, manifest = artifact(outputs, "teacher_summaries")
    assert manifest["dropped"]["came back empty"] == manifest["teacher_failed"] > 8
    assert len(table) == 40 - sum(manifest["dropped"].values())
    assert set(server.log.completed.values()) == {1}


def test_the_key_is_nowhere(r4r: Any, server: TeacherServer, outputs: Path, capsys: Any) -> None:
    """Not where a job succeeds, nor where the server repeats the key in its refusal; W&B's files included."""
    assert r4r(*SUMMARIES, *at(server, "openai"), "logger=wandb") == 0
    server.key = "another"
    assert r4r(*SUMMARIES, *at(server, "openai"), "teacher.model=sim2", "logger=wandb") == 1
    printed = capsys.readouterr()
    assert "refuses the key in OPENAI_API_KEY (HTTP 401)" in printed.err
    assert server.log.authorization == {f"Bearer {KEY}"}
    files = [path for path in outputs.rglob("*") if path.is_file()]
    assert any("wandb" in path.parts for path in files)
    assert any(path.name.startswith("teacher.sqlite") for path in files)
    for path in files:
        assert b"canary" not in path.read_bytes(), path
    assert "canary" not in printed.out + printed.err


def test_no_key_is_one_sentence(r4r: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert r4r(*SUMMARIES, "teacher=openai") == 1
    said = capsys.readouterr().err
    assert "r4r: teacher=openai needs a key: set the environment variable OPENAI_API_KEY" in said
    assert "Traceback" not in said


def test_a_plan_says_calls_tokens_and_dollars(r4r: Any, outputs: Path, capsys: Any) -> None:
    assert r4r("experiment=smoke", "teacher=openai", "plan=true") == 0
    planned = {line.split()[1]: line for line in capsys.readouterr().out.splitlines() if " teacher calls" in line}
    assert "up to 12 teacher calls, at most about" in planned["teacher_summaries"]
    assert "out, $0.01" in planned["teacher_summaries"]
    assert " to " in planned["reasons"]
    assert "$" in planned["reasons"]
    assert not (outputs / "teacher.sqlite").exists()
    assert r4r("experiment=smoke", "teacher=server", "plan=true") == 0
    assert "no price is known for Qwen/Qwen2.5-7B-Instruct" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["teacher=server", "teacher.base_url=null"], "teacher.base_url=None: the server teacher needs an address"),
        (["teacher=server", "teacher.base_url=localhost:8000"], "must be an address"),
        (["teacher=server", "teacher.base_url=http://me:secret@host/v1"], "must hold no user"),
        (
            ["teacher.base_url=http://host/v1"],
            "teacher=simulator has no such setting (teacher=openai, teacher=openai_batch, teacher=se",
        ),
        (["teacher=openai", "teacher.key_env=null"], "must name the environment variable"),
        (["teacher=openai", "teacher.key_env=no-name"], "never the key itself"),
        (["teacher=openai", "teacher.model=gpt-9", "teacher.budget_usd=5"], "a budget needs the price of gpt-9"),
        (["teacher=openai", "teacher.budget_usd=-1"], "teacher.budget_usd=-1"),
        (["teacher=openai", "teacher.concurrency=0"], "teacher.concurrency=0"),
        (["teacher=opena"], "did you mean"),
    ],
)
def test_a_wrong_teacher_is_said_before_anything_runs(argv: list[str], problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        preflight(argv)
    (found,) = error.value.problems
    assert problem in found
    assert "secret" not in found
    assert "no-name" not in found


def test_a_budget_with_a_price_is_right() -> None:
    preflight(["teacher=openai", "teacher.budget_usd=5"])
    preflight(["teacher=server", "teacher.model=m", "teacher.budget_usd=5", PRICES.replace("sim", "m")])


@pytest.mark.parametrize(("kind", "size"), [("simulator", 1), ("local", 1), ("server", 4), ("openai_batch", 50)])
def test_how_many_units_go_to_the_teacher_at_once(kind: str, size: int) -> None:
    own = {"local": {"source": "path:/m"}, "server": {"base_url": "http://h/v1"}}.get(kind, {})
    config = Config.model_construct(teacher=KINDS[kind](kind=kind, **own))
    parts = list(groups(config, list(range(50))))
    assert [unit for part in parts for unit in part] == list(range(50))
    assert len(parts[0]) == size
    assert list(groups(config, [])) == []


def test_what_candidates_share_is_computed_once_a_pair(
    r4r: Any, server: TeacherServer, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []

    def counted(lm: LanguageModel, prefixes: Sequence[Sequence[int]]) -> Any:
        computed.append(len(prefixes))
        return forward_prefix(lm, prefixes)

    monkeypatch.setattr(rate, "forward_prefix", counted)
    job = [*SMOKE, *at(server), "target=reasons", "dataset.pools.total=66", "reason_source.max_hinted=3"]
    job += ["reason_source.tau=0", "experts.reward_model.epochs=1", "++dataset.history.summaries=planted"]
    assert r4r(*job) == 0
    _, manifest = artifact(outputs, "reasons")
    assert manifest["pairs"] > 32  # three units or more
    assert sum(computed) == manifest["pairs"]
    once, kept = computed.copy(), pd.read_parquet(next(outputs.rglob("candidates.parquet")))
    shutil.rmtree(outputs / "artifacts" / "reasons")
    computed.clear()
    assert r4r(*job, "llm.prefix_gb=0") == 0
    assert len(computed) > 3 * len(once)  # both references, and every attempt
    pd.testing.assert_frame_equal(pd.read_parquet(next(outputs.rglob("candidates.parquet"))), kept)


def test_an_emptied_cache_beside_artifacts_is_told(r4r: Any, server: TeacherServer, outputs: Path, capsys: Any) -> None:
    command = [*SUMMARIES, *at(server), "dataset.pools.summaries=16"]
    assert r4r(*command) == 0
    assert "without content" not in capsys.readouterr().err
    for path in outputs.glob("teacher.sqlite*"):
        path.unlink()
    (outputs / "teacher.sqlite").touch()
    assert r4r(*command, "seed=7") == 0
    assert "teacher.sqlite was there without content, beside artifacts of earlier jobs" in capsys.readouterr().err
