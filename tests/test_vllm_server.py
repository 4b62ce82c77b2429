"""The engine behind an address, against a stand-in that computes with transformers: whole jobs, and what goes wrong."""

import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from vllm_server import VERSION, VLLMServer
from vllm_world import farthest, load, save_adapter, shared_as_whole

from r4r.configuration.schema import LLMConfig, VLLMConfig
from r4r.errors import ModelError
from r4r.lm.base import LanguageModel
from r4r.lm.engine import described
from r4r.lm.fetch import resolve
from r4r.lm.vllm import VLLM, open_vllm
from r4r.run import main

SMOKE = [
    "experiment=smoke",
    "dataset.world.users=8",
    "dataset.world.items=6",
    "dataset.world.reviews_per_user=6",
    "dataset.evaluate.max_rows=4",
    "++llm.dtype=float32",
    "~method@references.means",
    "~method@references.mf",
]


@pytest.fixture(scope="module")
def root(model_cache: Path) -> Path:
    return resolve("tiny:", None, None, model_cache)


@pytest.fixture
def server(load_tiny: Callable[..., LanguageModel]) -> Iterator[VLLMServer]:
    with VLLMServer(load_tiny()) as server:
        yield server


@pytest.fixture(autouse=True)
def outputs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model_cache: Path) -> Path:
    monkeypatch.setenv("R4R_OUTPUTS", str(tmp_path / "out"))
    monkeypatch.setenv("R4R_CACHE", str(model_cache))
    return tmp_path / "out"


@pytest.fixture(scope="module")
def by_hf(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> Path:
    """The outputs of a whole job by transformers."""
    folder = tmp_path_factory.mktemp("hf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("R4R_CACHE", str(model_cache))
        patch.setattr(sys, "argv", ["r4r", *SMOKE, f"paths.outputs={folder}"])
        main()
    return folder


@pytest.fixture
def summarizer(by_hf: Path, outputs: Path) -> None:
    """The outputs hold what a job needs to write all summaries, and no summary yet."""
    for name in ("split", "teacher_summaries", "train"):
        shutil.copytree(by_hf / "artifacts" / name, outputs / "artifacts" / name)


@pytest.fixture
def opened(model_cache: Path) -> Iterator[Callable[..., VLLM]]:
    """An engine at an address; takes settings of llm.vllm."""
    engines = []

    def at(url: str, **settings: Any) -> VLLM:
        own = VLLMConfig(base_url=url, **settings)
        spec = LLMConfig(name="tiny", source="tiny:", dtype="float32", max_length=2048, engine="vllm", vllm=own)
        engines.append(open_vllm(spec, [16], model_cache))
        return engines[-1]

    yield at
    for engine in engines:
        engine.close()


def at(server: VLLMServer) -> list[str]:
    return ["llm.engine=vllm", f"llm.vllm.base_url={server.url}"]


def record_of(outputs: Path) -> dict[str, Any]:
    path = max(outputs.rglob("result.json"), key=lambda path: path.stat().st_mtime_ns)
    return json.loads(path.read_text(encoding="utf-8"))


def tables(outputs: Path) -> dict[str, pd.DataFrame]:
    return {
        str(path.relative_to(outputs)): pd.read_parquet(path) for path in (outputs / "artifacts").rglob("*.parquet")
    }


def test_a_whole_job_leaves_the_artifacts_of_hf(r4r: Any, server: VLLMServer, by_hf: Path, tmp_path: Path) -> None:
    """Same keys, same texts, ratings up to rounding: reviews are summarised, reasons filtered, written, rated."""
    assert server.asked == []
    assert r4r(*SMOKE, *at(server), "timing.rows=2", f"paths.outputs={tmp_path / 'vllm'}") == 0
    hf, vllm = tables(by_hf), tables(tmp_path / "vllm")
    assert hf.keys() == vllm.keys()
    for name, table in hf.items():
        pd.testing.assert_frame_equal(table, vllm[name], rtol=0, atol=1e-4, obj=name)
    record = record_of(tmp_path / "vllm")
    assert record["engine"] == {"name": "vllm", "version": VERSION, "server": server.url}
    assert record_of(by_hf)["engine"]["name"] == "hf"
    assert record["timing"]["engine"] == record["engine"]
    assert [mode["n"] for mode in record["timing"]["modes"]] == [2, 2]
    experts = {"summarizer", "reward_model", "reasoner", "predictor"}
    assert {name.split("-")[0] for name in server.loaded} == experts
    assert {model for model, _, _ in server.asked} == set(server.loaded), "nothing is asked of the bare base model"
    key = record["artifacts"]["predict/test"]
    manifest = json.loads((tmp_path / "vllm/artifacts/predict/test" / key / "manifest.json").read_text())
    assert manifest["engine"]["server"] == server.url


@pytest.mark.usefixtures("summarizer")
def test_a_server_that_fails_costs_unfinished_units_alone(
    r4r: Any, server: VLLMServer, outputs: Path, capsys: pytest.CaptureFixture
) -> None:
    job = [*SMOKE, *at(server), "llm.vllm.unit_rows=4", "target=summaries"]
    server.left = 10
    assert r4r(*job) == 1
    told = capsys.readouterr().err
    assert f"{server.url}: nothing answers there" in told
    assert "Finished units are kept" in told
    server.left = None
    first = Counter(server.asked)
    server.asked.clear()
    assert r4r(*job) == 0
    (summaries,) = [table for name, table in tables(outputs).items() if "/summaries/" in name]
    assert summaries["row_id"].is_unique
    assert len(server.asked) == len(summaries) - 8, "two units of four rows were finished"
    assert sum(first.values()) >= 10


@pytest.mark.usefixtures("summarizer")
def test_the_other_engine_goes_on_with_a_stage(r4r: Any, server: VLLMServer, by_hf: Path, outputs: Path) -> None:
    """The engine is in no key: hf finishes what vLLM began, row by row, as it would have alone."""
    server.left = 10
    job = [*SMOKE, "target=summaries"]
    assert r4r(*job, *at(server), "llm.vllm.unit_rows=4") == 1
    assert r4r(*job) == 0
    (mixed,) = [table for name, table in tables(outputs).items() if "/summaries/" in name]
    (alone,) = [table for name, table in tables(by_hf).items() if "/summaries/" in name]
    pd.testing.assert_frame_equal(mixed, alone)


# the engine itself


def test_texts_and_ratings_are_those_of_hf(opened: Any, server: VLLMServer, model_cache: Path, tmp_path: Path) -> None:
    lm, engine = load("tiny:", model_cache), opened(server.url)
    for seed, name in enumerate(("reasoner", "predictor")):
        engine.load_adapter(name, save_adapter(lm, name, tmp_path / name, seed))
    for adapter in ("reasoner", "predictor", None):
        assert farthest(engine, lm, adapter) < 1e-5
    assert shared_as_whole(engine, lm, "predictor") < 1e-5


def test_one_name_is_another_adapter_after_another_training(
    opened: Any, server: VLLMServer, model_cache: Path, tmp_path: Path
) -> None:
    lm, engine = load("tiny:", model_cache), opened(server.url)
    for seed in (0, 1):
        engine.load_adapter("predictor", save_adapter(lm, "predictor", tmp_path / "adapter", seed))
        assert farthest(engine, lm, "predictor") < 1e-5
        lm.drop_adapter("predictor")
    assert len(server.loaded) == 2


def test_an_adapter_that_the_server_has_is_not_loaded_again(
    opened: Any, server: VLLMServer, model_cache: Path, tmp_path: Path
) -> None:
    folder = save_adapter(load("tiny:", model_cache), "predictor", tmp_path / "adapter", 0)
    for engine in (opened(server.url), opened(server.url)):
        engine.load_adapter("predictor", folder)
    assert len(server.loaded) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"name": "qwen", "root": "Qwen/Qwen2.5-7B"},
            r"serves qwen \(Qwen/Qwen2.5-7B\), not tiny; start it with VLLM_",
        ),
        ({"max_model_len": 1024}, "takes 1024 tokens, and llm.max_length needs 2080; .* --max-model-len 2080"),
        ({"key": "secret"}, "refuses the key; llm.vllm.key_env names"),
        ({"token_ids": False}, "gives no token ids: want vLLM 0.32 or newer there"),
    ],
    ids=["other model", "too short", "key", "old"],
)
def test_a_server_that_does_not_fit_is_named(
    opened: Any, load_tiny: Any, settings: dict[str, Any], message: str
) -> None:
    with VLLMServer(load_tiny(), **settings) as server, pytest.raises(ModelError, match=message):
        opened(server.url).write([[1, 2, 3]], None, 4)


def test_a_server_without_adapters_at_run_time_is_told_its_command(
    opened: Any, load_tiny: Any, model_cache: Path, tmp_path: Path, root: Path
) -> None:
    folder = save_adapter(load("tiny:", model_cache), "predictor", tmp_path / "adapter", 0)
    command = f"VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve {root} --served-model-name tiny --enable-lora"
    with (
        VLLMServer(load_tiny(), runtime_lora=False) as server,
        pytest.raises(ModelError, match=f"takes no adapters while it runs; start it with {command} --max-lora-rank 16"),
    ):
        opened(server.url).load_adapter("predictor", folder)


def test_a_folder_that_the_server_does_not_see_is_named(opened: Any, server: VLLMServer) -> None:
    engine = opened(server.url)
    with pytest.raises(ModelError, match=r"finds no adapter at /nowhere/adapter: .* must see paths\.artifacts"):
        engine._runner.run(engine._load("predictor", Path("/nowhere/adapter")))


def test_the_key_comes_from_the_environment(opened: Any, load_tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU7_KEY", "secret")
    with VLLMServer(load_tiny(), key="secret") as server:
        assert opened(server.url, key_env="GPU7_KEY").rate([[1, 2, 3]], None).shape == (1, 5)
        monkeypatch.delenv("GPU7_KEY")
        with pytest.raises(ModelError, match="set the environment variable GPU7_KEY"):
            opened(server.url, key_env="GPU7_KEY")


def test_a_trained_output_head_is_refused(opened: Any, server: VLLMServer, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"modules_to_save": ["lm_head"]}))
    with pytest.raises(ModelError, match=r"trained \['lm_head'\] too; set experts.predictor.train_lm_head=false"):
        opened(server.url).load_adapter("predictor", tmp_path)


# without a server


@pytest.mark.usefixtures("summarizer")
def test_without_vllm_the_job_says_what_to_install(
    r4r: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    assert r4r(*SMOKE, "llm.engine=vllm", "target=summaries") == 1
    assert "pip install 'r4r[vllm]'" in capsys.readouterr().err


def test_a_plan_names_the_engine(r4r: Any, server: VLLMServer, capsys: pytest.CaptureFixture) -> None:
    assert r4r(*SMOKE, *at(server), "plan=true") == 0
    assert capsys.readouterr().out.startswith(f"engine vllm {VERSION} at {server.url}\n")
    assert server.loaded == {}
    gone = LLMConfig(name="a", source="tiny:", engine="vllm", vllm=VLLMConfig(base_url="http://127.0.0.1:9/v1"))
    assert described(gone) == "vllm (no answer now) at http://127.0.0.1:9/v1"
    assert "tensor_parallel=2" in described(gone.model_copy(update={"vllm": VLLMConfig(tensor_parallel=2)}))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["llm.vllm.tensor_parallel=2"], "read by llm.engine=vllm alone"),
        (["llm.engine=vllm", "llm.batch_tokens=99"], "vLLM makes its own batches"),
        (["llm.engine=vllm", "llm.prefix_gb=1"], "vLLM makes its own batches"),
        (["llm.engine=vllm", "llm.merge_adapters=false"], "applies adapters itself"),
        (["llm.engine=vllm", "llm.cuda_graphs=false"], "applies adapters itself"),
        (["llm.engine=vllm", "llm.vllm.base_url=http://a/v1", "llm.vllm.eager=true"], "was started with its own"),
        (["llm.engine=vllm", "llm.vllm.key_env=KEY"], "in this process needs no key"),
        (["llm.engine=vllm", "llm.vllm.base_url=gpu7:8000"], "must be an address"),
        (["llm.engine=vllm", "llm.vllm.base_url=http://me:pw@a/v1"], r"must hold no user.*\(llm.vllm.key_env\)"),
        (["llm.engine=vllm", "experts.reasoner.train_lm_head=true"], "never a trained output head"),
        (["method=mf", "llm.engine=vllm"], "do not use llm"),
    ],
)
def test_settings_that_nothing_would_read_are_refused(
    r4r: Any, capsys: pytest.CaptureFixture, overrides: list[str], message: str
) -> None:
    assert r4r(*overrides) == 2
    told = capsys.readouterr().err
    assert re.search(message, told), told
    assert "1 problem " in told
