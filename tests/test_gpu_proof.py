"""The proof of the GPU path (experiments/gpu): rehearsed on a CPU without what a bare machine lacks; failures told."""

import json
import os
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "experiments" / "gpu"
ABSENT = ("openai", "wandb", "gguf")  # of a machine that has PyTorch and transformers alone


@pytest.fixture
def prove(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [str(FOLDER), str(FOLDER.parent / "bench"), *sys.path])
    import prove

    return prove


def test_the_whole_proof_is_rehearsed(prove: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ABSENT:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(sys, "argv", ["prove.py", "--rehearse", "--out", str(tmp_path), "--work", str(tmp_path / "w")])
    assert prove.main() == 0, (tmp_path / "proof.md").read_text() + (tmp_path / "w" / "said.log").read_text()[-3000:]
    proof = json.loads((tmp_path / "proof.json").read_text())
    outcomes = {part: found["outcome"] for part, found in proof["parts"].items()}
    held = ["gradients", "batches", "ratings", "resume", "memory", "in_float16", "two_processes", "job"]
    measured = ["machine", "models", "predictions", "training", "writing"]
    assert outcomes == dict.fromkeys(held, "holds") | dict.fromkeys(measured, "measured") | dict.fromkeys(
        ["recording", "by_vllm"], "skipped"
    )
    assert proof["parts"]["resume"]["adamw"]["adapters_apart"] == 0
    ways = proof["parts"]["predictions"]["seconds_a_prediction"]
    assert set(ways) == {"plain_transformers", "one_by_one", "batched"}
    table = (tmp_path / "proof.md").read_text()
    assert all(f"| {part.replace('_', ' ')} | {outcome} |" in table for part, outcome in outcomes.items())


def test_every_part_can_be_handed_to_a_fresh_process(prove: Any) -> None:
    """As on a GPU, where nothing is forked."""
    for group in prove.GROUPS:
        assert pickle.loads(pickle.dumps(group)) == group


def works(setting: Any, _: Any) -> dict[str, Any]:
    return {"holds": True, "found": 1 / 3}


def raises(setting: Any, _: Any) -> dict[str, Any]:
    raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with ...")


def dies(setting: Any, _: Any) -> dict[str, Any]:
    print("before the end", flush=True)
    os._exit(7)


def hangs(setting: Any, _: Any) -> dict[str, Any]:
    time.sleep(60)
    return {}


def test_a_part_that_fails_leaves_the_others_to_go_on(
    prove: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unready(setting: Any) -> Any:
        raise OSError("no such model")

    groups = (
        prove.Group((raises, dies, works), seconds=20),
        prove.Group((hangs,), seconds=6),
        prove.Group((dies,), unready, seconds=20),
    )
    proof = prove.run(prove.rehearsal(tmp_path), tmp_path / "out", 1, [], groups[:2])
    parts = proof["parts"]
    assert parts["raises"]["error"] == "RuntimeError: CUDA error: an illegal memory access was encountered"
    assert parts["dies"]["error"] == "its process ended with exit code 7"
    assert parts["dies"]["said"][-1] == "before the end"
    assert parts["works"]["outcome"] == "holds"
    assert parts["hangs"]["error"] == "stopped after 6 s"
    assert json.loads((tmp_path / "out" / "proof.json").read_text())["parts"]["works"]["found"] == 0.333
    parts = prove.run(prove.rehearsal(tmp_path), tmp_path / "out", 1, [], groups[2:])["parts"]
    assert parts["dies"]["error"] == "OSError: no such model"
    late = prove.run(prove.rehearsal(tmp_path), tmp_path / "out", 0, [], groups[:1])["parts"]
    assert {found["outcome"] for found in late.values()} == {"no time left"}
