"""Prompts: word for word what golden/ holds, strictly rendered, values never read as templates."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r4r.experts.cot import ChainOfThought
from r4r.experts.exp3rt import Exp3rt, clean_preferences
from r4r.experts.onestep import OneStep
from r4r.experts.predictor import Predictor
from r4r.experts.reasoner import Reasoner
from r4r.experts.rec_saver import RecSaver
from r4r.experts.reward_model import RewardModel
from r4r.experts.summarizer import Summarizer, clean_summary
from r4r.prompts.history import EMPTY, history_block
from r4r.prompts.render import FIELD, render, template
from r4r.rows import Case

HERE = Path(__file__).parent
TEMPLATES = sorted(path.stem for path in (HERE.parent / "r4r" / "prompts").glob("*.txt"))
SUMMARY = "Positive Aspects: Catchy Melody\nNegative Aspects: None\nUser Preference Elements: Melody"
REASON = "The user prizes melodies, and this album has many."
CASE = Case(
    row_id=7,
    title="Blue {Train}",
    category="Music",
    user_history=(("Kind of Blue", 5.0, SUMMARY), ("Head Hunters", 2.0, "Negative Aspects: Loud Drums")),
    item_history=(("Blue {Train}", 4.0, "Positive Aspects: Warm Production"),),
    user_average=3.456,
    item_average=None,
)
LIKES = "Likes: Catchy Melody, Lyrics\nDislikes: None"
NOBODY = Case(8, "First", "Music", (), (), None, None)

RENDERED = {
    "summarizer": lambda: Summarizer.prompt("Music", "Kind of Blue", 4.0, "The tunes {stay}.\nTwo lines."),
    "reasoner": lambda: Reasoner.prompt(CASE),
    "reasoner_without_history": lambda: Reasoner.prompt(NOBODY),
    "hint": lambda: Reasoner.prompt(CASE) + render("hint", rating="4.0"),
    "predictor": lambda: Predictor.prompt(CASE, REASON),
    "predictor_without_reason": lambda: Predictor.prompt(CASE, None),
    "fewshot": lambda: render("fewshot", history="1. Kind of Blue, Rating: 5.0", category="Music", title="Blue Train"),
    "fewshot_retry": lambda: render("fewshot_retry"),
    "gptscore": lambda: render(
        "gptscore", category="Music", title="Blue Train", reason="The user prizes melodies.", review="The tunes stay."
    ),
    "gptscore_retry": lambda: render("gptscore_retry"),
    "onestep": lambda: OneStep.prompt(CASE),
    "cot": lambda: ChainOfThought.prompt(CASE),
    "rec_saver": lambda: RecSaver.prompt(CASE),
    "rec_saver_reason": lambda: RecSaver.reason_prompt(CASE, 4.0),
    "rec_saver_verify": lambda: RecSaver.verify_prompt(CASE, REASON),
    "exp3rt": lambda: Exp3rt.prompt(CASE, LIKES),
    "exp3rt_reason": lambda: Exp3rt.reason_prompt(CASE, LIKES, "Likes: None\nDislikes: Weak Vocals", 4.0),
    "exp3rt_preferences": lambda: Exp3rt.preferences_prompt("Music", "Kind of Blue", 4.0, "The tunes {stay}."),
    "exp3rt_user_profile": lambda: Exp3rt.user_profile_prompt([("Kind of Blue", 5.0, LIKES)]),
    "exp3rt_item_profile": lambda: Exp3rt.item_profile_prompt("Music", "Blue Train", [("Blue Train", 4.0, LIKES)]),
    "review_inferred": lambda: render(
        "review_inferred", category="Music", title="Blue Train", review="The tunes stay."
    ),
}


@pytest.mark.parametrize("name", RENDERED)
def test_a_prompt_is_word_for_word_the_golden_one(name: str) -> None:
    """To change a prompt, change its golden file with it, in the same commit; artifact keys change too."""
    assert RENDERED[name]() + "\n" == (HERE / "golden" / f"{name}.txt").read_text(encoding="utf-8")


def test_every_template_has_a_golden_prompt() -> None:
    assert set(TEMPLATES) <= set(RENDERED)
    assert len(TEMPLATES) >= 6


def test_the_reasoner_is_shown_no_rating() -> None:
    prompt = Reasoner.prompt(CASE)
    assert "Rating" not in prompt
    assert not any(number in prompt for number in ("5.0", "4.0", "2.0", "3.5"))
    assert "1. Kind of Blue\n" + SUMMARY in prompt


def test_the_predictor_is_shown_ratings_and_averages() -> None:
    prompt = Predictor.prompt(CASE, REASON)
    assert "1. Kind of Blue, Rating: 5.0\n" + SUMMARY in prompt
    assert "all previous ratings): 3.5\n" in prompt
    assert "by other users): unknown\n" in prompt
    assert prompt.index("### Personalized Recommendation Analysis ###\n" + REASON) < prompt.index("### Task")


def test_without_a_reason_there_is_no_analysis_and_nothing_else_changes() -> None:
    section = f"### Personalized Recommendation Analysis ###\n{REASON}\n\n"
    assert Predictor.prompt(CASE, REASON).replace(section, "") == Predictor.prompt(CASE, None)


def test_the_reward_model_reads_what_the_predictor_reads() -> None:
    assert RewardModel.prompt(CASE, REASON) == Predictor.prompt(CASE, REASON)


def test_an_empty_history_says_so() -> None:
    assert history_block([]) == EMPTY
    assert Predictor.prompt(NOBODY, None).count(EMPTY) == 2


# the renderer


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_missing_or_needless_field_is_an_error(name: str) -> None:
    fields = dict.fromkeys(FIELD.findall(template(name)), "x")
    assert "{" not in render(name, **fields)
    with pytest.raises(KeyError, match=name):
        render(name, **fields, needless="x")
    for left_out in fields:
        with pytest.raises(KeyError, match=left_out):
            render(name, **{key: value for key, value in fields.items() if key != left_out})


@given(review=st.text() | st.sampled_from(["{title}", "{{review}}", "{", "}", "\\1", "\\g<0>", "{0}", "%s", "$title"]))
def test_values_stay_as_they_are(review: str) -> None:
    blank = render("review_inferred", category="Music", title="T", review="\0")
    assert render("review_inferred", category="Music", title="T", review=review) == blank.replace("\0", review)


# the summary's form


def test_a_summary_is_tidied() -> None:
    said = "Sure!\n- Positive Aspects: Catchy Melody.\n**Negative Aspects:** \nUser Preference Elements: Melody"
    assert clean_summary(said) == SUMMARY


@pytest.mark.parametrize("field", ["Positive Aspects", "Negative Aspects", "User Preference Elements"])
def test_a_text_that_lacks_a_line_is_no_summary(field: str) -> None:
    assert clean_summary("\n".join(line for line in SUMMARY.splitlines() if not line.startswith(field))) is None


def test_preferences_are_tidied() -> None:
    assert clean_preferences("Here:\n**Likes:** Catchy Melody, Lyrics.\n- Dislikes: \n") == LIKES
    assert clean_preferences("Likes: Catchy Melody") is None
    assert clean_preferences("Dislikes: Catchy Melody") is None


def test_an_answer_in_one_step_is_reason_then_rating() -> None:
    answer = OneStep.target(None, REASON, 4.0)
    assert answer == f"Analysis: {REASON}\nPredicted Rating: 4.0"
    assert OneStep.head(answer) == (f"Analysis: {REASON}\n", True)
    assert OneStep.reason(answer) == REASON


def test_a_chain_of_thought_holds_every_summary_and_no_rating_of_the_past() -> None:
    answer = ChainOfThought.target(CASE, REASON, 4.0)
    assert answer.startswith("User Preferences:\n1. Kind of Blue\nPositive Aspects:")
    assert "Item Features:\n1. Blue {Train}\nPositive Aspects: Warm Production\nAnalysis: " + REASON in answer
    assert answer.count("Rating") == 1
    assert OneStep.reason(answer) == REASON


@given(st.text())
def test_an_answer_that_went_astray_is_taken_whole(answer: str) -> None:
    head, finished = OneStep.head(answer)
    assert head.endswith("\n")
    assert finished == ("Predicted Rating:" in answer)
    if not finished:
        assert head == answer.strip() + "\n"
