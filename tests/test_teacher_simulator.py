"""The simulated teacher: reads the prompt alone, errs with temperature, and reasons usefully but not always rightly."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.construct import construct
from r4r.configuration.schema import WorldConfig
from r4r.data.simulator import World, build_world
from r4r.errors import TeacherError
from r4r.lexicon import ASPECTS, KINDS, aspects_in, keyword
from r4r.prompts.history import history_block
from r4r.prompts.render import render
from r4r.stages.stage import Job
from r4r.store.artifact import Store
from r4r.teacher import registry, simulator
from r4r.teacher.base import Answer, Call
from r4r.teacher.simulator import VERDICTS, SimulatedTeacher, simulator_identity

LEAK = re.compile(r"\bstars?\b|\brating\b|\d", re.IGNORECASE)


def answers(teacher: SimulatedTeacher, prompts: list[str], temperature: float, attempt: int = 0) -> list[str]:
    out = []
    for answer in teacher.ask([Call(prompt, temperature, 320, attempt) for prompt in prompts]):
        assert isinstance(answer, Answer), answer
        assert answer.tokens_in > 0
        assert 0 < answer.tokens_out <= 320
        out.append(answer.text)
    return out


def grades(reasons: list[str]) -> np.ndarray:
    return np.array([max((len(v), g) for g in VERDICTS for v in VERDICTS[g] if v in reason)[1] for reason in reasons])


def summarizer_prompts(rows: pd.DataFrame) -> list[str]:
    return [
        render("summarizer", category="Music", title=r.title, rating=f"{r.rating:.1f}", review=r.review)
        for r in rows.itertuples()
    ]


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(WorldConfig(users=100, items=40, reviews_per_user=8))


@pytest.fixture(scope="module")
def teacher() -> SimulatedTeacher:
    return SimulatedTeacher(skill=0.85, seed=0)


@pytest.fixture(scope="module")
def pairs(world: World, teacher: SimulatedTeacher) -> pd.DataFrame:
    """Rating, review and reasoner prompt (three reviews a side at most) of targets with a history."""
    rows = world.rows.assign(summary=answers(teacher, summarizer_prompts(world.rows), 0.2)).sort_values("timestamp")
    out = []
    for row in rows.itertuples():
        before = rows[rows["timestamp"] < row.timestamp]
        sides = [before[before[key] == getattr(row, key)].tail(3) for key in ("user_id", "item_id")]
        if min(map(len, sides)) < 2:
            continue
        user, item = (history_block((e.title, None, e.summary) for e in side.itertuples()) for side in sides)
        prompt = render("reasoner", category="Music", title=row.title, user_history=user, item_history=item)
        out.append((row.rating, row.review, prompt))
    return pd.DataFrame(out, columns=["rating", "review", "prompt"])


def hinted(pairs: pd.DataFrame) -> list[str]:
    return [
        p + render("hint", rating=f"{r:.1f}", lowest="1", highest="5")
        for p, r in zip(pairs["prompt"], pairs["rating"], strict=True)
    ]


def test_summaries_have_three_short_lines_in_a_closed_vocabulary(world: World, teacher: SimulatedTeacher):
    vocabulary = {keyword(name, kind) for name in ASPECTS for kind in KINDS} | {"None"}
    for text in answers(teacher, summarizer_prompts(world.rows), 0.2):
        labels, bodies = zip(*(line.split(": ", 1) for line in text.split("\n")), strict=True)
        assert labels == ("Positive Aspects", "Negative Aspects", "User Preference Elements")
        for body in bodies:
            assert set(body.split(", ")) <= vocabulary
            assert len(body.split(", ")) <= 3


@pytest.mark.parametrize(("temperature", "floor", "ceiling"), [(0.0, 0.97, 1.0), (0.2, 0.92, 1.0), (1.0, 0.7, 0.96)])
def test_summaries_find_what_reviews_say(
    world: World, teacher: SimulatedTeacher, temperature: float, floor: float, ceiling: float
):
    """Measured precision / recall: 1.00 / 0.99 at 0, 0.99 / 0.96 at 0.2."""
    right = said = read = 0
    texts = answers(teacher, summarizer_prompts(world.rows), temperature)
    for text, row in zip(texts, world.truth.reviews.itertuples(), strict=True):
        found = {(kind, aspect) for kind, names in aspects_in(text).items() for aspect in names}
        truth = {(kind, aspect) for kind in KINDS for aspect in getattr(row, kind)}
        right, said, read = right + len(found & truth), said + len(truth), read + len(found)
    assert floor < right / read <= ceiling
    assert floor < right / said <= ceiling


def test_the_worked_example_of_the_prompt_is_not_read(teacher: SimulatedTeacher):
    prompt = render("summarizer", category="Music", title="Blue Harbor", rating="3.0", review="It came on Tuesday.")
    (text,) = answers(teacher, [prompt], 0.2)
    assert text == "Positive Aspects: None\nNegative Aspects: None\nUser Preference Elements: None"


def test_reasons_are_one_short_paragraph_with_a_graded_verdict(pairs: pd.DataFrame, teacher: SimulatedTeacher):
    reasons = answers(teacher, list(pairs["prompt"]), 1.0)
    assert set(grades(reasons)) == {1, 2, 3, 4, 5}
    for reason in reasons:
        assert "\n" not in reason
        assert 15 <= len(reason.split()) <= 50
        assert not LEAK.search(reason)


def test_unhinted_reasons_are_better_than_chance_and_often_wrong(pairs: pd.DataFrame, teacher: SimulatedTeacher):
    """Measured: r = 0.6 at temperature 0 and 0.46 at 1, a third of the grades exact."""
    calm = grades(answers(teacher, list(pairs["prompt"]), 0.0))
    warm = grades(answers(teacher, list(pairs["prompt"]), 1.0))
    correlation = [np.corrcoef(g, pairs["rating"])[0, 1] for g in (calm, warm)]
    assert correlation[0] > correlation[1] > 0.3
    exact = (warm == pairs["rating"]).mean()
    assert 0.2 < exact < 0.6


def test_hints_steer_the_verdict_and_leak_now_and_then(pairs: pd.DataFrame, teacher: SimulatedTeacher):
    """Measured over twelve seeds of the teacher: r = 0.885 to 0.905 with the hint."""
    plain = grades(answers(teacher, list(pairs["prompt"]), 1.0))
    reasons = answers(teacher, hinted(pairs), 1.0, attempt=1)
    with_hint, without = (np.corrcoef(given, pairs["rating"])[0, 1] for given in (grades(reasons), plain))
    assert with_hint > 0.88
    assert with_hint > without + 0.3
    leaks = np.mean([bool(LEAK.search(reason)) for reason in reasons])
    assert 0.02 < leaks < 0.2
    assert not any(LEAK.search(reason) for reason in answers(SimulatedTeacher(1.0, 0), hinted(pairs), 1.0))
    best, worst = (
        [r for r, given in zip(reasons, pairs["rating"], strict=True) if given == grade] for grade in (5.0, 1.0)
    )
    assert np.mean(["praised" in r for r in best]) > np.mean(["praised" in r for r in worst]) + 0.5


def test_a_reason_inferred_from_the_review_beats_one_from_the_histories(pairs: pd.DataFrame, teacher: SimulatedTeacher):
    prompts = [render("review_inferred", category="Music", title="Blue Harbor", review=r) for r in pairs["review"]]
    inferred = grades(answers(teacher, prompts, 1.0))
    plain = grades(answers(teacher, list(pairs["prompt"]), 1.0))
    truth = pairs["rating"]
    assert np.corrcoef(inferred, truth)[0, 1] > np.corrcoef(plain, truth)[0, 1] + 0.15


def test_the_reason_names_the_match():
    user = "Positive Aspects: Clever Lyrics\nNegative Aspects: None\nUser Preference Elements: Lyrics"
    good = "Positive Aspects: Clever Lyrics\nNegative Aspects: None\nUser Preference Elements: None"
    bad = "Positive Aspects: None\nNegative Aspects: Weak Lyrics\nUser Preference Elements: None"
    prompts = [
        render(
            "reasoner",
            category="Music",
            title="Blue Harbor",
            user_history=history_block([("Red Tides", None, user), ("Paper Comet", None, user)]),
            item_history=history_block([("Blue Harbor", None, told)] * 2),
        )
        for told in (good, bad)
    ]
    liked, disliked = answers(SimulatedTeacher(1.0, 0), prompts, 1.0)
    assert "clever lyrics, important to them" in liked
    assert "weak lyrics, important to them" in disliked
    assert list(grades([liked, disliked])) == [4, 2]


def test_raw_reviews_and_empty_sides_are_read_too():
    prompt = render(
        "reasoner",
        category="Music",
        title="Blue Harbor",
        user_history=history_block([("Red Tides", None, "I buy records for the singing.\n7. Not an entry.")]),
        item_history=history_block([("Blue Harbor", None, "Soulful voice throughout. Their cover is ugly.")]),
    )
    (reason,) = answers(SimulatedTeacher(1.0, 0), [prompt], 1.0)
    assert "soulful vocals, important to them" in reason
    assert "ugly artwork." in reason  # which the user does not speak of
    empty = render(
        "reasoner", category="Music", title="X", user_history=history_block([]), item_history=history_block([])
    )
    (reason,) = answers(SimulatedTeacher(1.0, 0), [empty], 1.0)
    assert grades([reason]) == [3]


def test_answers_repeat_for_an_attempt_and_differ_between_attempts(pairs: pd.DataFrame, teacher: SimulatedTeacher):
    prompts = list(pairs["prompt"][:60])
    assert answers(teacher, prompts, 1.0, 2) == answers(SimulatedTeacher(0.85, 0), prompts[::-1], 1.0, 2)[::-1]
    changed = np.mean(np.array(answers(teacher, prompts, 1.0, 1)) != np.array(answers(teacher, prompts, 1.0, 2)))
    assert changed > 0.6
    assert answers(teacher, prompts, 0.0, 1) == answers(teacher, prompts, 0.0, 2)
    assert answers(SimulatedTeacher(0.85, 1), prompts, 1.0) != answers(teacher, prompts, 1.0)


def test_answers_depend_on_nothing_but_the_call(pairs: pd.DataFrame):
    """The same prompts in another world, order and company get the same answers."""
    prompts = list(pairs["prompt"][:20])
    alone = [answers(SimulatedTeacher(0.85, 0), [prompt], 1.0)[0] for prompt in prompts]
    build_world(WorldConfig(seed=9, users=10, items=10, reviews_per_user=3))
    assert answers(SimulatedTeacher(0.85, 0), hinted(pairs)[:20] + prompts, 1.0)[20:] == alone


@settings(max_examples=60)
@given(st.text(max_size=300))
def test_an_unknown_prompt_is_an_error_and_never_text(prompt: str):
    (answer,) = SimulatedTeacher(0.85, 0).ask([Call(prompt, 1.0, 320)])
    assert isinstance(answer, TeacherError)
    assert "is none of them" in str(answer)


@settings(max_examples=60)
@given(review=st.text(max_size=200), title=st.text(min_size=1, max_size=30).filter(str.strip))
def test_any_review_text_gets_an_answer(review: str, title: str):
    for name, fields in (("summarizer", {"rating": "4.0"}), ("review_inferred", {})):
        prompt = render(name, category="Music", title=title, review=review, **fields)
        assert answers(SimulatedTeacher(0.85, 0), [prompt], 1.0)


def test_an_answer_past_max_tokens_is_an_error(pairs: pd.DataFrame, teacher: SimulatedTeacher):
    (answer,) = teacher.ask([Call(pairs["prompt"][0], 1.0, 8)])
    assert isinstance(answer, TeacherError)
    assert "cut off" in str(answer)


def test_identity_tells_teachers_apart():
    known = [SimulatedTeacher(skill, seed).identity for skill in (0.5, 0.85) for seed in (0, 1)]
    assert len({str(identity) for identity in known}) == 4


# whoever brings a prompt registers its answer


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> dict[str, registry.Known]:
    """What is registered from now on is forgotten afterwards."""
    known = dict(registry._known)
    monkeypatch.setattr(registry, "_known", known)
    return known


def test_a_prompt_of_ones_own_is_answered_by_registration(registered: dict[str, registry.Known]) -> None:
    prompt = Call("### Critique ###\nWarm sound.\n### Task: judge", 0.0, 320)
    assert isinstance(SimulatedTeacher(1.0, 0).ask([prompt])[0], TeacherError)
    before = {stage: simulator_identity(1.0, 0, stage) for stage in ("summarizer", "critic")}

    @registry.answers("critic", r"\A### Critique ###\n(?P<reason>.*)\n### Task: judge", version=3)
    def critique(prompt: registry.Reading, found: re.Match[str]) -> str:
        return f"I read: {found['reason']}"

    assert answers(SimulatedTeacher(1.0, 0), [prompt.prompt], 0.0) == ["I read: Warm sound."]
    assert simulator_identity(1.0, 0, "critic")["answers"] == {"critic": 3}
    assert simulator_identity(1.0, 0, "summarizer") == before["summarizer"]  # no other stage's key changes
    assert simulator_identity(1.0, 0) != before["critic"]


def test_one_prompt_has_one_answer(registered: dict[str, registry.Known]) -> None:
    with pytest.raises(ValueError, match="'summarizer' is answered by"):
        registry.answers("summarizer", "x", version=1)(lambda prompt, found: "")


def test_a_changed_answer_changes_the_keys_of_the_stages_that_ask_for_it(registered: dict[str, registry.Known]) -> None:
    asking = {  # prompt -> the overrides of a job, and its stage that asks
        "summarizer": ([], "teacher_summaries"),
        "reasoner": (["reason_source=history"], "reasons"),
        "methods/fewshot/rate.txt": (["method=fewshot"], "predict/fewshot"),
        "methods/rec_saver/reason.txt": (["method=rec_saver"], "rec_saver/traces"),
        "methods/exp3rt/preferences.txt": (["method=exp3rt"], "exp3rt/teacher_preferences"),
        "methods/exp3rt/user_profile.txt": (["method=exp3rt"], "exp3rt/teacher_user_profiles"),
    }
    loader = make_loader()
    configs = {name: validate(compose(loader, "config", job)) for name, (job, _) in asking.items()}

    def told() -> dict[str, str]:
        """What each stage says of its teacher."""
        found = {}
        for name, config in configs.items():
            final = construct(config.method, "method").stages(Job(config, Store(config.paths.artifacts)))
            (stage,) = [stage for stage in final.upstream() if stage.name == asking[name][1]]
            found[name] = str(stage.config.get("teacher") or stage.config["teaching"]["teacher"])
            assert "simulator" in found[name]
        return found

    before = told()
    for prompt in asking:
        registered[prompt] = replace(registered[prompt], version=registered[prompt].version + 1)
        after = told()
        assert {name for name, text in after.items() if text != before[name]} == {prompt}
        before = after


def test_two_versions_of_the_simulator_are_two_teachers(monkeypatch: pytest.MonkeyPatch) -> None:
    before = simulator_identity(0.85, 0)
    monkeypatch.setattr(simulator, "VERSION", simulator.VERSION + 1)
    assert simulator_identity(0.85, 0) != before
