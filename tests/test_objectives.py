"""Objectives beyond SFT: losses as TRL's, adapters that stand aside, answers that are sampled, resumed, and judged."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ddp import in_processes
from torch import Tensor
from trained import Killed, adapter, farthest

from r4r.configuration.schema import TrainerConfig
from r4r.errors import TrainingError
from r4r.experts.reasoner import Reasoner
from r4r.lm.base import LanguageModel, Lora
from r4r.lm.loss import Example, response_loss
from r4r.lm.memory import Shape
from r4r.rewards.format import Format
from r4r.training.fit import fit
from r4r.training.likelihood import frozen_logps, likelihood
from r4r.training.objectives.base import Objective, encode
from r4r.training.objectives.best_of_n import BestOfN
from r4r.training.objectives.dpo import DPO, preference_loss
from r4r.training.objectives.grpo import GRPO, advantages, policy_loss
from r4r.training.objectives.rollouts import Answer
from r4r.training.objectives.sft import SFT
from r4r.training.packing import answers_a_row
from r4r.training.switching import set_aside

Load = Callable[..., LanguageModel]
GOLDEN = json.loads((Path(__file__).parent / "golden" / "trl_losses.json").read_text())
BATCH = {name: torch.tensor(values) for name, values in GOLDEN["batch"].items()}
LENGTHS = BATCH["mask"].sum(dim=1).int().tolist()
PROMPTS = [(n, f"music {n}: " + "the user would enjoy the melody. " * (n % 3), 6) for n in range(6)]
PAIRS = [(n, f"music {n}", ("the vocals and the melody", "dislike")) for n in range(6)]


def train(
    lm: LanguageModel,
    folder: Path,
    objective: Objective,
    texts: Sequence[Any],
    log: Callable[[dict[str, float]], None] = lambda metrics: None,
    reward: Callable[..., Any] | None = None,
    start: Path | None = None,
    trainer: Mapping[str, Any] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    chosen: dict[str, Any] = {"lora": {"r": 4, "alpha": 8}, "lr": 1e-2, "epochs": 2, "batch_size": 3, "warmup": 0.1}
    folder.mkdir(exist_ok=True)
    own = {"accelerator": "cpu", "micro_batch_tokens": 2048, "checkpoint_every_s": 0, **(trainer or {})}
    expert = Reasoner(**(chosen | settings), max_new_tokens=6, objective=objective)  # type: ignore[arg-type]
    services = {"reward": reward} if reward else None
    examples = objective.encode(lm, texts)
    return fit(expert, lm, "reasoner", examples, folder, TrainerConfig(**own), 3, log, (), start, services)


def vowels(answers: Sequence[Answer]) -> dict[str, list[float]]:
    """A toy reward: the share of an answer's characters that are vowels."""
    found = [sum(map(answer.text.count, "aeiou")) / max(1, len(answer.text)) for answer in answers]
    return {"": found, "vowels": found}


def test_two_processes_learn_from_answers_as_one_does(load_tiny: Load, tmp_path: Path) -> None:
    """The last step is of one prompt, which leaves the second process without any."""

    def learn(name: str, **trainer: Any) -> None:
        own = {"reward": vowels, "batch_size": 2, "epochs": 1, "trainer": trainer}
        train(load_tiny(), tmp_path / name, GRPO(rewards={}, group=3, start="none"), PROMPTS[:3], **own)

    learn("one")
    (tmp_path / "two").mkdir()
    assert in_processes(2, lambda: learn("two", strategy="ddp", devices="auto")) == [0, 0]
    assert farthest(adapter(tmp_path / "one"), adapter(tmp_path / "two")) < 1e-5


# losses


def test_policy_losses_are_trls() -> None:
    assert len(GOLDEN["grpo"]) == 16
    for told in [*GOLDEN["grpo"], {"kind": "bnpo", "ratio": "token", "fresh": False, "kl": 0.0, **GOLDEN["dapo"]}]:
        logps = BATCH["new"].clone().requires_grad_(True)
        rewards = BATCH["rewards"].tolist()
        scores = [a for n in (0, 3) for a in advantages(rewards[n : n + 3], told["kind"] != "dr_grpo")]
        found = policy_loss(
            told["kind"],
            told["ratio"],
            (0.2, 0.28),
            told["kl"],
            logps,
            BATCH["mask"],
            torch.tensor(scores),
            None if told["fresh"] else BATCH["old"],
            BATCH["reference"] if told["kl"] else None,
        )
        weight = {"grpo": 6, "bnpo": sum(LENGTHS), "dr_grpo": 6 * GOLDEN["room"]}[told["kind"]]
        (found.loss / weight).backward()
        assert float(found.loss.detach()) / weight == pytest.approx(told["loss"], abs=1e-5), told["kind"]
        torch.testing.assert_close(logps.grad, torch.tensor(told["gradient"]), rtol=0, atol=1e-5)
        assert (found.clipped > 0) == (not told["fresh"] and told["ratio"] == "token")


@pytest.mark.parametrize("kind", ["sigmoid", "sigmoid_norm", "ipo"])
def test_preference_losses_are_trls(kind: Any) -> None:
    logps, reference = BATCH["new"].sum(dim=1), BATCH["reference"].sum(dim=1)
    losses = preference_loss(kind, 0.3, logps, reference, BATCH["mask"].sum(dim=1))
    assert float(losses.mean()) == pytest.approx(GOLDEN["dpo"][kind], abs=1e-5)


def test_likelihoods_are_those_of_sft(tiny: LanguageModel) -> None:
    examples = encode(tiny, [(n, prompt, "the melody " * (n + 1)) for n, prompt, _ in PROMPTS[:3]])
    with torch.no_grad():
        found = likelihood(tiny, examples, entropy=True)
        assert float(-found.logps.sum()) == pytest.approx(float(response_loss(tiny, examples)), abs=1e-3)
    assert found.mask.sum(dim=1).tolist() == [len(e.response) for e in examples]
    logits = len(tiny.chat.tokenizer)
    assert 0 < found.entropy / float(found.mask.sum()) < torch.log(torch.tensor(float(logits)))
    rows = frozen_logps(tiny, examples, budget=64)
    for row, logps, example in zip(rows, found.logps.tolist(), examples, strict=True):
        assert row == pytest.approx(logps[: len(example.response)], abs=1e-4)


@pytest.fixture(scope="module")
def adapted(load_tiny: Load) -> tuple[LanguageModel, list[Any]]:
    """A model with an adapter that changes what it says, and the adapter's weights."""
    lm = load_tiny()
    weights = lm.new_adapter("reasoner", Lora(r=4, alpha=8), False, 0)
    with torch.no_grad():
        for weight in weights:
            weight.add_(0.02)
    return lm, weights


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["music", "the melody of " * 9]), st.integers(1, 6)), min_size=1, max_size=7))
def test_answers_that_share_a_prompt_are_learnt_as_each_by_itself(
    adapted: tuple[LanguageModel, list[Any]], drawn: list[tuple[str, int]]
) -> None:
    lm, weights = adapted
    examples = encode(lm, [(n, prompt, f"{n} the vocals" * length) for n, (prompt, length) in enumerate(drawn)])

    def gradients(batches: list[list[Any]]) -> list[Tensor]:
        for weight in weights:
            weight.grad = None
        for batch in batches:
            (-likelihood(lm, batch).logps).sum().backward()
        return [weight.grad.clone() for weight in weights if weight.grad is not None]

    together, apart = gradients([examples]), gradients([[example] for example in examples])
    assert len(together) == len(weights)
    scale = max(float(gradient.abs().max()) for gradient in apart)
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4 * scale)


def test_answers_stand_side_by_side_where_that_is_cheaper() -> None:
    small = Shape(linear=2_000_000, rest=0, cached=0, layers=5, hidden=192, intermediate=512, vocabulary=5000)
    assert answers_a_row(330, [72] * 8, small) == 8  # the prompt is most of it
    assert answers_a_row(10, [4000] * 8, small) == 1  # attention among strangers would cost more than the prompt


# adapters that stand aside


def test_a_training_goes_on_as_it_was_after_others_have_used_the_model(load_tiny: Load) -> None:
    lm = load_tiny()
    weights = lm.new_adapter("other", Lora(r=2, alpha=4), False, 1)
    with torch.no_grad():
        for weight in weights:
            weight.add_(0.05)
    weights = lm.new_adapter("reasoner", Lora(r=4, alpha=8), False, 0)
    with torch.no_grad():
        for weight in weights:
            weight.add_(0.02)
    (example,) = encode(lm, [(1, "music", "the melody")])

    def gradients() -> list[Tensor]:
        for weight in weights:
            weight.grad = None
        response_loss(lm, [example]).backward()
        return [weight.grad.clone() for weight in weights if weight.grad is not None]

    before = gradients()
    lm.causal.train()
    with set_aside(lm, "reasoner"):
        for name in ("reasoner", "other", None):
            with lm.using(name, merged=True), torch.no_grad():
                response_loss(lm, [example])
            assert not lm.causal.training
    assert lm.causal.training
    lm.causal.eval()
    after = gradients()
    assert len(before) == len(after) == len(weights)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.fixture(scope="module")
def started(load_tiny: Load, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that SFT trained."""
    folder = tmp_path_factory.mktemp("sft")
    train(load_tiny(), folder, SFT(), [(n, prompt, "the melody") for n, prompt, _ in PROMPTS])
    return folder / "adapter"


# preferences


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize(
    ("kind", "dtype", "near"), [("sigmoid", "float32", 1e-5), ("ipo", "float32", 1e-5), ("sigmoid", "bfloat16", 0.02)]
)
def test_preferences_are_learnt_against_the_adapter_that_sft_trained(
    load_tiny: Load, tmp_path: Path, started: Path, kind: Any, dtype: str, near: float
) -> None:
    seen: list[dict[str, float]] = []
    lm = load_tiny(dtype=dtype)
    facts = train(lm, tmp_path, DPO(loss=kind, lr=3e-3), PAIRS, seen.append, start=started)
    first, last = seen[0], seen[-1]
    assert first["reasoner/train/margin/mean"] == pytest.approx(0, abs=near)  # it begins as its reference
    assert last["reasoner/train/margin/mean"] > 0.01
    assert last["reasoner/train/accuracy"] == 1
    assert facts["last_loss"] < facts["first_loss"]
    assert "reasoner-start" not in lm.peft.peft_config
    assert (tmp_path / "steps.png").stat().st_size > 1000


@pytest.mark.parametrize(("given", "peak"), [({"lr_share": 0.5}, 5e-3), ({"lr": 2e-3, "lr_share": 0.5}, 2e-3)], ids=str)
def test_the_rate_is_a_share_of_the_experts_or_given_outright(
    load_tiny: Load, tmp_path: Path, started: Path, given: dict[str, float], peak: float
) -> None:
    seen: list[dict[str, float]] = []
    train(load_tiny(), tmp_path, DPO(**given), PAIRS, seen.append, start=started, lr=1e-2, warmup=0.0)  # type: ignore[arg-type]
    assert seen[0]["reasoner/train/lr"] == pytest.approx(peak)


def test_a_preference_for_what_is_the_same_is_refused(tiny: LanguageModel) -> None:
    with pytest.raises(TrainingError, match="row 4: the chosen answer is the rejected one"):
        DPO().encode(tiny, [(4, "music", ("the vocals", "the vocals"))])


# answers of its own


def test_a_reward_that_tells_no_answers_apart_is_said(
    load_tiny: Load, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def half(answers: Sequence[Answer]) -> dict[str, list[float]]:
        return vowels(answers) | {"form": [-0.5] * len(answers)}

    objective = GRPO(rewards={"form": Format(), "vowels": Format()}, group=3, start="none")
    train(load_tiny(), tmp_path, objective, PROMPTS, reward=half)
    said = [line for line in capfd.readouterr().err.splitlines() if "for every answer of all" in line]
    assert len(said) == 1
    assert "reward form was -0.5 for every answer of all 4 steps" in said[0]


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize(("objective", "factor"), [(GRPO, 1.2), pytest.param(BestOfN, 1.04, marks=pytest.mark.slow)])
def test_the_reward_goes_up_from_where_sft_left_the_adapter(
    load_tiny: Load, tmp_path: Path, objective: Any, factor: float
) -> None:
    seen: list[dict[str, float]] = []
    own: dict[str, Any] = {"train_lm_head": True}  # this model says nearly the same whatever it thinks
    lessons = [(n, prompt, "the melody") for n, prompt, _ in PROMPTS[:3]]
    train(load_tiny(), tmp_path / "sft", SFT(), lessons, lr=1e-3, epochs=1, **own)
    chosen = objective(rewards={}, lr=0.1, group=16, epochs=8, batch_size=2)
    where, begun = tmp_path / "further", tmp_path / "sft" / "adapter"
    facts = train(load_tiny(), where, chosen, PROMPTS[:2], seen.append, vowels, begun, **own)
    tmp_path = where
    rewards = [row["reasoner/train/reward/mean"] for row in seen]
    assert sum(rewards[-3:]) / 3 > factor * sum(rewards[:2]) / 2 > 0
    row = seen[0]
    names = {name.removeprefix("reasoner/train/") for name in row}
    measured = {"reward/mean", "reward/sd", "reward/vowels/mean", "reward/vowels/sd", "groups_of_equal_rewards"}
    assert measured | {"answers_cut", "answer_tokens/mean", "loss", "lr"} <= names
    if objective is GRPO:
        assert {"kl", "entropy", "clip_share"} <= names
        assert row["reasoner/train/kl"] == pytest.approx(0, abs=1e-6)
        assert seen[-1]["reasoner/train/kl"] > 1e-4
    assert facts["train_tokens"] > 0
    kept = [json.loads(line)["rows"][0] for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert [line["reward/mean"] for line in kept] == pytest.approx(rewards, abs=1e-6)
    assert (tmp_path / "steps.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("settings", "killed_at"),
    [pytest.param({}, 2, marks=pytest.mark.slow), ({"updates": 2, "loss": "bnpo", "clip_high": 0.28}, 3)],
)
def test_a_killed_training_ends_as_an_unbroken_one(
    load_tiny: Load, tmp_path: Path, started: Path, settings: dict[str, Any], killed_at: int
) -> None:
    def objective() -> GRPO:
        return GRPO(rewards={}, group=3, **settings)

    own: dict[str, Any] = {"reward": vowels, "start": started, "lr": 1e-2}
    whole = train(load_tiny(), tmp_path / "unbroken", objective(), PROMPTS, **own)

    def kill(metrics: dict[str, float]) -> None:
        if metrics["reasoner/train/step"] == killed_at:
            raise Killed

    with pytest.raises(Killed):
        train(load_tiny(), tmp_path / "broken", objective(), PROMPTS, kill, **own)
    facts = train(load_tiny(), tmp_path / "broken", objective(), PROMPTS, **own)
    assert facts["resumed_at_step"] == killed_at
    assert facts["train_tokens"] == whole["train_tokens"]
    assert farthest(adapter(tmp_path / "unbroken"), adapter(tmp_path / "broken")) == 0

    def rows(name: str) -> list[Any]:
        lines = [json.loads(line) for line in (tmp_path / name / "steps.jsonl").read_text().splitlines()]
        return list({line["unit"]: line["rows"][0] for line in lines}.values())

    assert rows("broken") == rows("unbroken")


def test_passes_do_not_change_what_is_learnt(load_tiny: Load, tmp_path: Path, started: Path) -> None:
    own: dict[str, Any] = {"reward": vowels, "start": started}
    for tokens in (4096, 64):
        trainer = {"micro_batch_tokens": tokens}
        folder = tmp_path / str(tokens)
        facts = train(load_tiny(), folder, GRPO(rewards={}, group=3), PROMPTS, trainer=trainer, **own)
        assert (facts["passes_a_step"] > 1) == (tokens == 64)
    assert farthest(adapter(tmp_path / "4096"), adapter(tmp_path / "64")) < 1e-4


def test_a_group_of_equal_rewards_gives_no_gradient_and_is_counted(load_tiny: Load, tmp_path: Path) -> None:
    """Of two prompts, one is rewarded alike whatever is said: the other alone is learnt."""

    def reward(answers: Sequence[Answer]) -> dict[str, list[float]]:
        found = [
            0.5 if answer.row_id == 0 else value for answer, value in zip(answers, vowels(answers)[""], strict=True)
        ]
        return {"": found}

    seen: list[dict[str, float]] = []
    heard: list[int] = []

    class Heard(GRPO):
        def loss(self, lm: LanguageModel, examples: Sequence[Any]) -> Tensor:
            heard.extend(len(e.prompt) for e in examples)
            return super().loss(lm, examples)

    lm = load_tiny()
    train(lm, tmp_path, Heard(rewards={}, group=4, start="none"), PROMPTS[:2], seen.append, reward, batch_size=2)
    assert all(row["reasoner/train/groups_of_equal_rewards"] >= 0.5 for row in seen)
    assert set(heard) == {len(lm.chat.prompt_ids(PROMPTS[1][1]))}


def test_a_reward_that_stays_constant_is_an_error(load_tiny: Load, tmp_path: Path) -> None:
    def constant(answers: Sequence[Answer]) -> dict[str, list[float]]:
        return {"": [1.0] * len(answers)}

    with pytest.raises(TrainingError, match=r"in all 4 steps, no answer was rewarded more .*mean reward 1\)"):
        train(load_tiny(), tmp_path / "few", GRPO(rewards={}, start="none"), PROMPTS, reward=constant)
    assert (tmp_path / "few" / "steps.png").is_file()  # what to look at
    many = [(n, "music", 1) for n in range(120)]
    with pytest.raises(TrainingError, match=r"in the first 50 steps, no answer .* 100% of the answers were cut"):
        train(load_tiny(), tmp_path / "many", GRPO(rewards={}, start="none"), many, reward=constant, batch_size=2)


def test_a_training_that_has_learnt_goes_on_after_a_kill_though_no_answers_differ_any_more(
    load_tiny: Load, tmp_path: Path
) -> None:
    steps = [0]

    def reward(answers: Sequence[Answer]) -> dict[str, list[float]]:
        steps[0] += 1
        return {"": [float(n) if steps[0] < 4 else 1.0 for n in range(len(answers))]}

    def kill(facts: dict[str, float]) -> None:
        if facts["reasoner/train/step"] == 10:
            raise Killed

    many = [(n, "music", 1) for n in range(140)]
    with pytest.raises(Killed):
        train(load_tiny(), tmp_path, GRPO(rewards={}, start="none"), many, kill, reward, batch_size=2, epochs=1)
    facts = train(load_tiny(), tmp_path, GRPO(rewards={}, start="none"), many, reward=reward, batch_size=2, epochs=1)
    assert facts["steps"] == 70


def test_an_adapter_that_stays_as_it_was_is_an_error(load_tiny: Load, tmp_path: Path, started: Path) -> None:
    class Still(SFT):
        starts_from = "sft"

        def loss(self, lm: LanguageModel, examples: Sequence[Example]) -> Tensor:
            return super().loss(lm, examples) * 1e-30

    texts = [(n, prompt, "the melody") for n, prompt, _ in PROMPTS]
    with pytest.raises(TrainingError, match=r"changed not one weight|gradient of exactly zero"):
        train(load_tiny(), tmp_path, Still(), texts, start=started, lr=1e-30)


def test_a_prompt_without_room_for_its_answer_names_its_row(tiny: LanguageModel) -> None:
    with pytest.raises(TrainingError, match=r"row 7: its prompt takes \d+ tokens, and with 40000"):
        GRPO(rewards={}).encode(tiny, [(7, "music", 40000)])
