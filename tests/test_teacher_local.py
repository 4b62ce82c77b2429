"""A teacher in this process: answers in order, cut or empty ones as typed failures, samples told apart by attempt."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir

from r4r.configuration.checks import validate
from r4r.configuration.schema import LLMConfig
from r4r.errors import TeacherError
from r4r.files import conf_dir
from r4r.lm.base import LanguageModel
from r4r.stages.teachers import make_teacher
from r4r.teacher.base import Answer, Call
from r4r.teacher.local import LocalTeacher

Request = tuple[tuple[str, ...], int, float, int]


def teacher(asked: list[Request]) -> LocalTeacher:
    def write(prompts: Sequence[str], max_tokens: int, temperature: float, seed: int) -> list[tuple]:
        asked.append((tuple(prompts), max_tokens, temperature, seed))
        return [(f"re {prompt}" if prompt != "mute" else " ", 3, 2, prompt != "long") for prompt in prompts]

    return LocalTeacher(write, {"kind": "local"}, seed=7)


def test_answers_come_in_the_order_of_the_calls_whatever_their_settings() -> None:
    calls = [Call("a", 1.0, 50, 0), Call("b", 0.0, 20, 0), Call("c", 1.0, 50, 0)]
    answers = teacher([]).ask(calls)
    assert answers == [Answer("re a", 3, 2), Answer("re b", 3, 2), Answer("re c", 3, 2)]


def test_a_cut_or_empty_answer_is_a_failure_and_never_text() -> None:
    fine, cut, empty = teacher([]).ask([Call("a", 1.0, 9), Call("long", 1.0, 9), Call("mute", 1.0, 9)])
    assert isinstance(fine, Answer)
    assert isinstance(cut, TeacherError)
    assert "9 tokens" in str(cut)
    assert isinstance(empty, TeacherError)


def test_each_attempt_is_another_sample() -> None:
    asked: list[Request] = []
    teacher(asked).ask([Call("a", 1.0, 9, attempt) for attempt in range(3)])
    assert len({seed for *_, seed in asked}) == 3


def test_no_call_is_no_work() -> None:
    asked: list[Request] = []
    assert teacher(asked).ask([]) == []
    assert asked == []


def test_a_teacher_is_loaded_in_its_own_quantization(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[LLMConfig] = []

    def load(spec: LLMConfig, *_: object) -> SimpleNamespace:
        loaded.append(spec)
        return SimpleNamespace(spec=spec, chat=None)

    monkeypatch.setattr(LanguageModel, "load", load)
    monkeypatch.setenv("R4R_OUTPUTS", str(tmp_path))
    choices = ["experiment=smoke", "teacher=local", "teacher.source='tiny:'", "teacher.sha256=null"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = validate(compose("config", [*choices, "+teacher.quantization=nf4", "+teacher.dtype=float16"]))
    make_teacher(config)
    assert [(spec.source, spec.quantization, spec.dtype) for spec in loaded] == [("tiny:", "nf4", "float16")]
