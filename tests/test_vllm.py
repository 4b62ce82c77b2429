"""vLLM itself, in process and behind its server, against hf: greedy texts, ratings, whole jobs. `pytest -m vllm`."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from openai import OpenAI, OpenAIError
from vllm_world import build_small, farthest, load, save_adapter, shared_as_whole

from r4r.configuration.schema import LLMConfig, VLLMConfig
from r4r.errors import ModelError
from r4r.lm.base import LanguageModel
from r4r.lm.engine import Engine
from r4r.lm.vllm import open_vllm
from r4r.lm.vllm_inside import ENVIRONMENT

pytestmark = pytest.mark.vllm
SMALL = {"memory_share": 0.12, "eager": True}  # other jobs share the memory


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    build_small(folder)
    return folder


@pytest.fixture(scope="module")
def lm(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load(f"path:{folder}", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def adapters(lm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("adapters")
    return {name: save_adapter(lm, name, home / name, seed) for seed, name in enumerate(("reasoner", "predictor"))}


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture(scope="module")
def address(lm: LanguageModel, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server started by the very command that an error tells."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    engine = open_vllm(spec(lm, base_url=url), [16], folder)
    variable, _, _, model, *flags = engine.command().split()  # type: ignore[attr-defined]
    engine.close()
    name, value = variable.split("=")
    flags += ["--port", str(port), "--enforce-eager", "--gpu-memory-utilization", str(SMALL["memory_share"])]
    # what `vllm serve MODEL` stands for; the CPU package's own command misses its version
    started = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, *flags]
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as out:
        server = subprocess.Popen(started, env=os.environ | {name: value}, stdout=out, stderr=out)
    try:
        with OpenAI(api_key="none", base_url=url, max_retries=0) as client:
            for _ in range(600):
                assert server.poll() is None, log.read_text()[-4000:]
                try:
                    client.models.list()
                    break
                except OpenAIError:
                    time.sleep(1)
        yield url
    finally:
        server.terminate()
        server.wait(60)


def spec(lm: LanguageModel, **settings: object) -> LLMConfig:
    return lm.spec.model_copy(update={"engine": "vllm", "vllm": VLLMConfig.model_validate(settings)})


@pytest.fixture(scope="module", params=["in process", "server"])
def engine(request: pytest.FixtureRequest, lm: LanguageModel, folder: Path, adapters: dict) -> Iterator[Engine]:
    url = {"base_url": request.getfixturevalue("address")} if request.param == "server" else SMALL
    engine = open_vllm(spec(lm, **url), [4], folder)
    for name, path in adapters.items():
        engine.load_adapter(name, path)
    yield engine
    engine.close()


@pytest.mark.parametrize("adapter", ["reasoner", "predictor", None])
def test_texts_and_ratings_are_those_of_hf(engine: Engine, lm: LanguageModel, adapter: str | None) -> None:
    assert farthest(engine, lm, adapter) < 1e-3


def test_candidates_that_share_a_prompt_are_rated_as_by_hf(engine: Engine, lm: LanguageModel) -> None:
    assert shared_as_whole(engine, lm, "predictor") < 1e-3


def test_samples_follow_their_seed(engine: Engine, lm: LanguageModel) -> None:
    prompts = [lm.chat.prompt_ids("music")] * 2
    one = engine.write(prompts, "reasoner", 12, 1.0, seeds=[7, 8])
    assert engine.write(prompts, "reasoner", 12, 1.0, seeds=[7, 8]) == one
    assert engine.write(prompts, "reasoner", 12, 1.0, seeds=[9, 10]) != one


def test_vllm_knows_the_variables_that_it_is_started_with() -> None:
    from vllm import envs

    assert set(ENVIRONMENT) <= set(envs.environment_variables)


def test_the_engine_names_its_version(engine: Engine) -> None:
    import vllm

    engine.rate([[1, 2]], None)
    assert engine.about["version"] == vllm.__version__


def test_a_trained_output_head_is_refused(engine: Engine, lm: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"modules_to_save": ["lm_head"]}))
    with pytest.raises(ModelError, match=r"experts\.predictor\.train_lm_head=false"):
        engine.load_adapter("predictor", tmp_path)


def test_a_server_that_cannot_see_the_adapter_says_so(address: str, lm: LanguageModel, adapters: dict) -> None:
    engine = open_vllm(spec(lm, base_url=address), [4], adapters["reasoner"])
    with pytest.raises(ModelError, match=r"finds no adapter at /nowhere/adapter: the server must see paths.artifacts"):
        engine._runner.run(engine._load("other", Path("/nowhere/adapter")))
    engine.close()


@pytest.mark.parametrize("where", ["in process", "server"])
def test_a_whole_job_scores_as_with_hf(
    where: str, request: pytest.FixtureRequest, r4r: Callable, folder: Path, tmp_path: Path
) -> None:
    common = ["experiment=smoke", "llm.name=small", f"llm.source=path:{folder}", "++llm.dtype=float32"]
    ours = [f"llm.vllm.{name}={value}" for name, value in SMALL.items()]
    if where == "server":
        ours = [f"llm.vllm.base_url={request.getfixturevalue('address')}", "llm.max_length=1024"]
        common += ["llm.max_length=1024"]
    records = {}
    for name, settings in (("hf", []), ("vllm", ["llm.engine=vllm", *ours])):
        assert r4r(*common, *settings, f"paths.outputs={tmp_path / name}") == 0
        (path,) = tmp_path.glob(f"{name}/runs/**/result.json")
        records[name] = json.loads(path.read_text())
    assert records["vllm"]["engine"]["name"] == "vllm"
    assert records["vllm"]["artifacts"] == records["hf"]["artifacts"]
    key = records["hf"]["artifacts"]["predict/test"]
    hf, vllm = (
        pd.read_parquet(tmp_path / name / "artifacts/predict/test" / key / "detail.parquet") for name in ("hf", "vllm")
    )
    assert hf["reason"].tolist() == vllm["reason"].tolist()
    assert hf["mean"].tolist() == pytest.approx(vllm["mean"].tolist(), abs=5e-3)
