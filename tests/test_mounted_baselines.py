"""EXP3RT and Rec-SAVER ask, learn and are read by the experts that the configuration mounts."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from canary_world import start

from r4r.lm.chat import Chat
from r4r.methods.exp3rt import experts as exp3rt
from r4r.methods.rec_saver import expert as rec_saver
from r4r.store.artifact import Store
from r4r.teacher.simulator import SimulatedTeacher

METHODS = {  # method -> its experts; expert -> its class, and the stages that ask its prompt
    "exp3rt": {
        "exp3rt_preferences": (exp3rt.PreferenceExtractor, {"exp3rt/teacher_preferences", "exp3rt/preferences"}),
        "exp3rt_user_profile": (exp3rt.UserProfiler, {"exp3rt/teacher_user_profiles", "exp3rt/user_profiles"}),
        "exp3rt_item_profile": (exp3rt.ItemProfiler, {"exp3rt/teacher_item_profiles", "exp3rt/item_profiles"}),
        "exp3rt": (exp3rt.Exp3rt, {"write/exp3rt/test", "predict/test"}),
    },
    "rec_saver": {"rec_saver": (rec_saver.RecSaver, {"write/rec_saver/test", "predict/test"})},
}
HINTED = {"exp3rt": "exp3rt/teacher_reasons", "rec_saver": "rec_saver/traces"}


def own_class(place: str, stock: Any) -> type:
    """A subclass with a word of its own in its prompts, in its answers to learn, and in what it reads."""

    def prompt(self: Any, *about: Any) -> str:
        return stock.prompt(self, *about) + f"\nAsked by {place}."

    def reason_prompt(self: Any, *about: Any) -> str:
        return stock.reason_prompt(self, *about) + f"\nHinted by {place}."

    def target(self: Any, *about: Any) -> str:
        return f"Learnt by {place}. " + stock.target(self, *about)

    def read(self: Any, answer: str) -> str:
        return f"Read by {place}. " + stock.read(self, answer)

    methods = {"prompt": prompt, "target": target, "read": read}
    return type("Own", (stock,), methods | ({"reason_prompt": reason_prompt} if place in HINTED else {}))


@pytest.mark.parametrize("method", METHODS)
def test_a_swapped_expert_is_trained_writes_rates_and_is_read(
    tmp_path: Path, model_cache: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    heard: dict[str, list[str]] = {}
    stage = [""]
    workspace, encode, ask = Store.workspace, Chat.prompt_ids, SimulatedTeacher.ask

    def noting(self: Store, name: str, key: str) -> Path:
        stage[0] = name
        return workspace(self, name, key)

    def encoded(self: Chat, prompt: str) -> list[int]:
        heard.setdefault(stage[0], []).append(prompt)
        return encode(self, prompt)

    def asked(self: SimulatedTeacher, calls: Any) -> list[Any]:
        heard.setdefault(stage[0], []).extend(call.prompt for call in calls)
        return ask(self, calls)

    monkeypatch.setattr(Store, "workspace", noting)
    monkeypatch.setattr(Chat, "prompt_ids", encoded)
    monkeypatch.setattr(SimulatedTeacher, "ask", asked)
    job = [f"method={method}", "dataset.history.prompt=2"]
    for place, (stock, _) in METHODS[method].items():
        module = exp3rt if method == "exp3rt" else rec_saver
        monkeypatch.setattr(module, f"Own_{place}", own_class(place, stock), raising=False)
        job.append(f"experts.{place}._target_={module.__name__}.Own_{place}")
    start(tmp_path, model_cache, *job)
    for place, (_, stages) in METHODS[method].items():
        (lessons,) = (tmp_path / "artifacts" / "train").glob(f"{place}.lessons/*/data.parquet")
        table = pd.read_parquet(lessons)
        assert len(table) > 3
        assert table["prompt"].str.endswith(f"\nAsked by {place}.").all()
        assert table["response"].str.startswith(f"Learnt by {place}. ").all()
        for name in stages:
            assert all(prompt.endswith(f"\nAsked by {place}.") for prompt in heard[name])
    assert all(prompt.endswith(f"\nHinted by {method}.") for prompt in heard[HINTED[method]])
    (detail,) = (tmp_path / "artifacts" / "predict" / "test").glob("*/detail.parquet")
    assert pd.read_parquet(detail)["reason"].str.startswith(f"Read by {method}. ").all()
    if method == "exp3rt":  # profiles are read by those who wrote them, wherever the rating's prompt shows them
        for prompt in heard["write/exp3rt/test"]:
            assert "Read by exp3rt_user_profile. " in prompt
            assert "Read by exp3rt_item_profile. " in prompt
