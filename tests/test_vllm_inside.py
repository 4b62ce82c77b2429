"""vLLM in this process, against a stand-in for its package: what it is started with, and that it makes room."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from r4r.configuration.schema import LLMConfig, VLLMConfig
from r4r.lm import engine as engine_module
from r4r.lm.rating_tokens import rating_tokens
from r4r.lm.vllm import open_vllm
from r4r.lm.vllm_inside import InProcess
from r4r.scale import Scale


class FakeEngine:
    """Says one token, and remembers what it was asked for."""

    def __init__(self, settings: Any):
        self.settings, self.told = settings, []
        self.most_logprobs = 0

    async def generate(self, prompt: Any, params: Any, number: str, lora_request: Any) -> Any:
        self.told.append("generate")
        wanted = getattr(params, "logprob_token_ids", [])
        self.most_logprobs = max(self.most_logprobs, len(wanted))
        logprobs = [{token: SimpleNamespace(logprob=-float(token)) for token in wanted}] if wanted else None
        yield SimpleNamespace(outputs=[SimpleNamespace(token_ids=[7], logprobs=logprobs)])

    async def sleep(self, level: int) -> None:
        self.told.append(f"sleep {level}")

    async def wake_up(self) -> None:
        self.told.append("wake")

    def shutdown(self) -> None:
        self.told.append("shutdown")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[FakeEngine]:
    """The engines that were started."""
    engines: list[FakeEngine] = []

    def start(settings: Any) -> FakeEngine:
        engines.append(FakeEngine(settings))
        return engines[-1]

    modules = {name: ModuleType(name) for name in ("vllm", "vllm.sampling_params", "vllm.v1.engine.exceptions")}
    modules["vllm"].__dict__.update(
        __version__="0.32.0",
        AsyncEngineArgs=SimpleNamespace,
        SamplingParams=SimpleNamespace,
        AsyncLLMEngine=SimpleNamespace(from_engine_args=start),
    )
    modules["vllm.sampling_params"].__dict__["RequestOutputKind"] = SimpleNamespace(FINAL_ONLY=2)
    modules["vllm.v1.engine.exceptions"].__dict__["EngineDeadError"] = type("EngineDeadError", (Exception,), {})
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return engines


@pytest.fixture
def engine(started: list[FakeEngine], model_cache: Path) -> Iterator[InProcess]:
    own = VLLMConfig(max_num_seqs=99, memory_share=0.4)
    made = open_vllm(LLMConfig(name="t", source="tiny:", max_length=512, engine="vllm", vllm=own), [16], model_cache)
    assert isinstance(made, InProcess)
    yield made
    made.close()


def test_vllm_is_started_with_the_jobs_limits(engine: InProcess, started: list[FakeEngine]) -> None:
    assert engine.write([[1, 2], [3]], None, 4) == [[7], [7]]
    settings = started[0].settings
    assert (settings.max_num_seqs, settings.max_num_batched_tokens) == (99, 8192)
    assert settings.gpu_memory_utilization == 0.4
    assert settings.enable_sleep_mode is False, "vLLM on a CPU knows no sleep"


class Terminated(KeyboardInterrupt):
    """As a job sets SIGTERM up."""


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_a_stop_while_vllm_starts_is_heard(
    engine: InProcess, number: signal.Signals, expected: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM takes a KeyboardInterrupt for no reason to stop."""

    def heard(*_: Any) -> None:
        raise expected

    def start(settings: Any) -> FakeEngine:
        try:
            os.kill(os.getpid(), number)
            time.sleep(9)
        except KeyboardInterrupt:
            pass
        return FakeEngine(settings)

    monkeypatch.setattr(sys.modules["vllm"].AsyncLLMEngine, "from_engine_args", start)
    before = signal.signal(number, heard)
    try:
        began, told = time.monotonic(), None
        try:
            engine.write([[1]], None, 4)
        except KeyboardInterrupt as stop:
            told = type(stop)
        assert time.monotonic() - began < 5
        assert signal.getsignal(number) is heard
    finally:
        signal.signal(number, before)
    assert told is expected


def test_vllm_sleeps_while_an_expert_is_trained_and_wakes_by_itself(
    engine: InProcess, started: list[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_device", torch.device("cuda"))
    engine.rest()
    assert started == [], "there is nothing to put to sleep yet"
    engine.write([[1]], None, 4)
    engine.rest()
    engine.rest()
    engine.write([[1], [2]], None, 4)
    assert started[0].settings.enable_sleep_mode is True
    assert started[0].told == ["generate", "sleep 1", "wake", "generate", "generate"]


def test_no_request_asks_for_more_log_probabilities_than_vllm_gives(
    engine: InProcess, started: list[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    scale = Scale(lowest=0, highest=100)
    monkeypatch.setattr("r4r.lm.vllm_base.MOST_LOGPROBS", 3)
    found = engine.rate([[1, 2], [3]], None, scale)
    spelled = rating_tokens(engine.chat, scale=scale)
    logits = [-torch.tensor([branch.tokens] * 2).float() for branch in spelled.branches]
    assert started[0].most_logprobs == 3
    torch.testing.assert_close(found, spelled.probabilities(logits), rtol=0, atol=1e-6)


# llm.engine=auto


@pytest.mark.parametrize(
    ("gpu", "installed", "settings", "heads", "expected", "why"),
    [
        (True, ("vllm", "vllm-bnb-plugin"), {"quantization": "nf4"}, False, "vllm", "vLLM 0.32.0 and a GPU"),
        (True, ("vllm",), {}, False, "vllm", "a GPU"),
        (True, ("vllm",), {"quantization": "nf4"}, False, "hf", "lacks vllm-bnb-plugin"),
        (True, (), {}, False, "hf", "not installed"),
        (False, ("vllm",), {}, False, "hf", "no GPU"),
        (True, ("vllm",), {}, True, "hf", "output head"),
        (False, (), {"vllm": {"base_url": "http://gpu7:8000/v1"}}, False, "vllm", "names a server"),
        (False, (), {"engine": "vllm"}, False, "vllm", "says so"),
        (True, ("vllm",), {"engine": "hf"}, False, "hf", "says so"),
    ],
)
def test_auto_is_vllm_where_it_can_be(
    gpu: bool,
    installed: tuple[str, ...],
    settings: dict[str, Any],
    heads: bool,
    expected: str,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(engine_module, "_version_of", lambda name: "0.32.0" if name in installed else None)
    spec = LLMConfig.model_validate({"name": "t", "source": "tiny:", "engine": "auto", **settings})
    name, told = engine_module.chosen(spec, "auto", heads)
    assert name == expected
    assert why in told
    assert engine_module.chosen(spec, "cpu", heads)[0] == (expected if why in ("says so", "names a server") else "hf")


def test_auto_changes_no_key_and_is_told(
    r4r: Any, tmp_path: Path, model_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("R4R_CACHE", str(model_cache))
    plans = []
    for engine in ("hf", "auto"):
        assert r4r("experiment=smoke", f"llm.engine={engine}", "plan=true", f"paths.outputs={tmp_path}") == 0
        plans.append(capsys.readouterr().out.splitlines())
    assert plans[1] == ["engine hf: no GPU is used", *plans[0]]
