"""The corpus of the small base model for the simulated world holds nothing of an experiment; its training resumes."""

import importlib
import json
import random
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r4r.lexicon import ASPECTS, conjugate
from r4r.teacher.simulator import VERDICTS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def corpus() -> ModuleType:
    return _script("corpus")


@pytest.fixture(scope="module")
def pretrain() -> ModuleType:
    return _script("pretrain")


def _script(name: str) -> ModuleType:
    sys.path.insert(0, str(ROOT / "experiments" / "world_model"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    _script("vocabulary").build(folder)
    return AutoTokenizer.from_pretrained(folder)


def ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_every_family_of_tasks_has_its_share(pretrain: ModuleType, corpus: ModuleType) -> None:
    assert set(pretrain.STAGES[max(pretrain.STAGES)]) == set(corpus.FAMILIES)
    assert {family for shares in pretrain.STAGES.values() for family in shares} == set(corpus.FAMILIES)


# Its tokenizer


def test_digits_are_single_tokens(tokenizer: Any) -> None:
    for digit in "0123456789":
        assert len(ids(tokenizer, digit)) == 1
    assert len(ids(tokenizer, "1234567890")) == 10
    assert tokenizer.tokenize("Predicted Rating: 4.0")[-3:] == ["4", ".", "0"]


def test_words_of_the_world_and_of_the_prompts_are_single_tokens(tokenizer: Any) -> None:
    vocabulary = _script("vocabulary")
    texts = vocabulary.prompts(vocabulary.YOUNGER)
    assert len(texts) > 20
    phrases = [
        text for aspect in ASPECTS.values() for part in aspect for text in ([part] if type(part) is str else part)
    ]
    texts += [conjugate(phrase, plural) for phrase in phrases for plural in (False, True)]
    found = (re.findall(r"[A-Za-z]+(?:'[A-Za-z]+)?", re.sub(r"\{\w+\}", " ", text)) for text in texts)
    words = {word for some in found for word in some}
    assert len(words) > 400
    assert [word for word in sorted(words) if len(ids(tokenizer, " " + word)) != 1] == []


@given(st.text())
def test_any_text_comes_back(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(ids(tokenizer, text)) == text


# What it has seen: nothing of the experts', nothing of an experiment's world


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+|[^\sa-z0-9']", text.lower())


def runs(text: str, length: int) -> set[tuple[str, ...]]:
    words = words_of(text)
    return {tuple(words[n : n + length]) for n in range(len(words) - length + 1)}


@pytest.fixture(scope="module")
def seen(corpus: ModuleType) -> list[str]:
    """Rows of every family as the model reads them."""
    rng = random.Random(5)
    world = corpus.book(corpus.FIRST_SEED + 77)
    rows = [
        corpus.draw(rng, family, world, ["blue", "heavy", *"abcdefghij"], 5)
        for family in corpus.FAMILIES
        for _ in range(60)
    ]
    texts = [row.page + "\n" + "\n".join(f"{q}\n{a}" for q, a in row.turns) for row in rows if row is not None]
    assert len(texts) > 900
    return texts


def test_no_prompt_or_format_of_the_experts_is_in_it(seen: list[str]) -> None:
    forbidden = [
        "###", "Positive Aspects", "Negative Aspects", "Preference Elements", "Predicted Rating",
        "Average Past Ratings", "Output Format", "Rating:", "Analysis:", "The user cares about",
        "The user listens mainly", "The album is praised", "important to them",
        *(verdict for forms in VERDICTS.values() for verdict in forms),
    ]  # fmt: skip
    for text in seen:
        assert [phrase for phrase in forbidden if phrase.lower() in text.lower()] == []


def test_no_five_words_of_a_prompt_are_in_it(seen: list[str]) -> None:
    pieces = [piece for prompt in _script("vocabulary").prompts() for piece in re.split(r"\{\w+\}", prompt)]
    prompts = set().union(*(runs(piece, 5) for piece in pieces))
    assert len(prompts) > 500
    assert set().union(*(runs(text, 5) for text in seen)) & prompts == set()


def test_no_world_of_an_experiment_is_in_it(corpus: ModuleType) -> None:
    seeds = [
        int(seed)
        for path in (ROOT / "conf").rglob("*.yaml")
        for seed in re.findall(r"seed: *(\d+)", path.read_text(encoding="utf-8"))
    ]
    assert seeds
    assert max(seeds) < corpus.FIRST_SEED < corpus.PROBE_SEED
    with pytest.raises(ValueError, match="experiments"):
        corpus.book(42)


# How it is trained


def test_a_killed_pretraining_goes_on_as_if_nothing_had_happened(
    pretrain: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["--tokens", "4000", "--chapter", "2000", "--batch", "1000", "--probe-rows", "2"]
    pretrain.main(["--out", str(tmp_path / "whole"), *settings])
    chapters = []

    def killed(run: Any) -> None:
        chapters.append(None)
        if len(chapters) == 2:
            raise KeyboardInterrupt
        whole(run)

    whole = pretrain.Run.save
    with monkeypatch.context() as patch:
        patch.setattr(pretrain.Run, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            pretrain.main(["--out", str(tmp_path / "killed"), *settings])
    pretrain.main(["--out", str(tmp_path / "killed"), *settings])
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]
    record = json.loads((tmp_path / "killed" / "record.json").read_text(encoding="utf-8"))
    assert [run["from_tokens"] for run in record["runs"]] == [0, record["chapters"][0]["tokens"]]
    assert record["chapters"][-1]["probes"]["copying"]["answers"] > 0
