"""Prompts: word for word what golden/ holds, strictly rendered, values never read as templates."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r4r.experts.cot import ChainOfThought
from r4r.experts.onestep import OneStep
from r4r.experts.predictor import Predictor
from r4r.experts.reasoner import Reasoner
from r4r.experts.reviewer import Reviewer
from r4r.experts.reward_model import RewardModel
from r4r.experts.steps import hinted
from r4r.experts.summarizer import Summarizer, clean_summary
from r4r.lm.base import Lora
from r4r.methods.exp3rt.experts import Exp3rt, ItemProfiler, PreferenceExtractor, UserProfiler
from r4r.methods.fewshot.method import RATE, RETRY, rating_prompt
from r4r.methods.rec_saver.expert import RecSaver
from r4r.prompts.history import EMPTY, history_block
from r4r.prompts.render import FIELD, render, template
from r4r.rows import Case, Lesson
from r4r.scale import PAPER, Scale
from r4r.training.expert import Writer

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

HALF_STARS = Scale(lowest=0.5, highest=5, step=0.5)


def shipped(expert: type) -> Any:
    """An expert with settings that matter to no prompt."""
    more = {"max_new_tokens": 8} if issubclass(expert, Writer) else {}
    return expert(lora=Lora(), lr=1e-3, epochs=1, batch_size=1, warmup=0, **more)


SUMMARIZER, REASONER, PREDICTOR = shipped(Summarizer), shipped(Reasoner), shipped(Predictor)
ONESTEP, COT = shipped(OneStep), shipped(ChainOfThought)
EXP3RT, REC_SAVER, EXTRACTOR = shipped(Exp3rt), shipped(RecSaver), shipped(PreferenceExtractor)
USER_PROFILER, ITEM_PROFILER = shipped(UserProfiler), shipped(ItemProfiler)
DESCRIBED = replace(CASE, categories="Jazz, Hard Bop", description="Recorded in {1957}.")
ENDS = {"lowest": "1", "highest": "5"}

RENDERED = {
    "summarizer": lambda: SUMMARIZER.prompt("Music", "Kind of Blue", "4.0", "The tunes {stay}.\nTwo lines."),
    "summarizer_example": lambda: SUMMARIZER.teacher_prompt("Music", "Kind of Blue", "4.0", "The tunes {stay}."),
    "reasoner": lambda: REASONER.prompt(CASE),
    "reasoner_without_history": lambda: REASONER.prompt(NOBODY),
    "reviewer": lambda: shipped(Reviewer).prompt(CASE),
    "hint": lambda: hinted(REASONER.prompt(CASE), 4.0, PAPER),
    "predictor": lambda: PREDICTOR.prompt(CASE.thinking(REASON)),
    "predictor_without_reason": lambda: PREDICTOR.prompt(CASE),
    "fewshot": lambda: render(
        RATE, history="1. Kind of Blue, Rating: 5.0", category="Music", title="Blue Train", **ENDS
    ),
    "fewshot_retry": lambda: render(RETRY, **ENDS),
    "gptscore": lambda: render(
        "gptscore", category="Music", title="Blue Train", reason="The user prizes melodies.", review="The tunes stay."
    ),
    "gptscore_retry": lambda: render("gptscore_retry"),
    "onestep": lambda: ONESTEP.prompt(CASE),
    "cot": lambda: COT.prompt(CASE),
    "rec_saver": lambda: REC_SAVER.prompt(CASE),
    "rec_saver_described": lambda: REC_SAVER.prompt(DESCRIBED),
    "rec_saver_reason": lambda: REC_SAVER.reason_prompt(CASE, 4.0),
    "rec_saver_verify": lambda: REC_SAVER.verify_prompt(CASE, REASON),
    "exp3rt": lambda: EXP3RT.prompt(CASE.thinking(LIKES, EMPTY)),
    "exp3rt_described": lambda: EXP3RT.prompt(DESCRIBED.thinking(LIKES, EMPTY)),
    "exp3rt_reason": lambda: EXP3RT.reason_prompt(CASE.thinking(LIKES, "Likes: None\nDislikes: Weak Vocals"), 4.0),
    "exp3rt_preferences": lambda: EXTRACTOR.prompt("Music", "Kind of Blue", "4.0", "The tunes {stay}."),
    "exp3rt_user_profile": lambda: USER_PROFILER.prompt(replace(CASE, user_history=(("Kind of Blue", 5.0, LIKES),))),
    "exp3rt_item_profile": lambda: ITEM_PROFILER.prompt(
        replace(CASE, title="Blue Train", item_history=(("Blue Train", 4.0, LIKES),))
    ),
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
    prompt = REASONER.prompt(CASE)
    assert "Rating" not in prompt
    assert not any(number in prompt for number in ("5.0", "4.0", "2.0", "3.5"))
    assert "1. Kind of Blue\n" + SUMMARY in prompt


def test_the_predictor_is_shown_ratings_and_averages() -> None:
    prompt = PREDICTOR.prompt(CASE.thinking(REASON))
    assert "1. Kind of Blue, Rating: 5.0\n" + SUMMARY in prompt
    assert "all previous ratings): 3.5\n" in prompt
    assert "by other users): unknown\n" in prompt
    assert prompt.index("### Personalized Recommendation Analysis ###\n" + REASON) < prompt.index("### Task")


def test_without_a_reason_there_is_no_analysis_and_nothing_else_changes() -> None:
    section = f"### Personalized Recommendation Analysis ###\n{REASON}\n\n"
    assert PREDICTOR.prompt(CASE.thinking(REASON)).replace(section, "") == PREDICTOR.prompt(CASE)


def test_the_reward_model_reads_what_the_predictor_reads() -> None:
    assert shipped(RewardModel).prompt(CASE.thinking(REASON)) == PREDICTOR.prompt(CASE.thinking(REASON))


def test_every_prompt_of_ratings_speaks_in_the_scale_of_the_data() -> None:
    """Ends of the scale, ratings of the history and the answer to learn; the default scale's are the paper's words."""
    case = replace(CASE, scale=HALF_STARS, user_history=(("Kind of Blue", 3.5, SUMMARY),))
    for expert in (PREDICTOR, ONESTEP, COT):
        assert "(0.5 being the lowest and 5 being highest" in expert.prompt(case)
        assert "[Rating between 0.5 and 5]" in expert.prompt(case)
        assert "Kind of Blue, Rating: 3.5\n" in expert.prompt(case)
        assert "(1 being the lowest and 5 being highest" in expert.prompt(CASE)
    assert PREDICTOR.target(case, Lesson(4.5)) == "Predicted Rating: 4.5"
    assert ONESTEP.target(case, Lesson(4.5, REASON)).endswith("\nPredicted Rating: 4.5")
    assert "rated the item 4.5 stars. The star ranges from 0.5 to 5, with 5 being" in hinted("", 4.5, HALF_STARS)


def test_the_summarizer_learns_from_a_prompt_without_the_teachers_example() -> None:
    asked = SUMMARIZER.prompt("Music", "Kind of Blue", "4.0", "The tunes stay.")
    told = SUMMARIZER.teacher_prompt("Music", "Kind of Blue", "4.0", "The tunes stay.")
    assert told.endswith(asked)
    assert "Example" in told
    assert "Example" not in asked


def test_an_empty_history_says_so() -> None:
    assert history_block([]) == EMPTY
    assert PREDICTOR.prompt(NOBODY).count(EMPTY) == 2


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
    assert EXTRACTOR.lines("Here:\n**Likes:** Catchy Melody, Lyrics.\n- Dislikes: \n") == LIKES == EXTRACTOR.read(LIKES)
    for half in ("Likes:  Catchy\nMelody", "Dislikes: Catchy Melody"):
        assert EXTRACTOR.lines(half) is None
        assert EXTRACTOR.read(half) == " ".join(half.split())


@pytest.mark.parametrize("prompt", ["rec_saver", "exp3rt"])
def test_metadata_that_the_data_lack_leave_no_trace(prompt: str) -> None:
    """Described and not, a prompt differs by the lines of the metadata alone."""
    bare, full = RENDERED[prompt]().splitlines(), RENDERED[f"{prompt}_described"]().splitlines()
    assert "None" not in bare[-3:]
    added = [line for line in full if line not in bare]
    assert added[-1].endswith("Recorded in {1957}.")
    assert [line for line in full if line not in added and line] == [line for line in bare if line]
    assert [line for line in bare if line not in full] == []


@pytest.mark.parametrize(
    ("scale", "ends"), [(PAPER, ("1", "5")), (HALF_STARS, ("0.5", "5")), (Scale(lowest=0, highest=100), ("0", "100"))]
)
def test_the_baselines_ask_on_the_scale_of_the_data(scale: Scale, ends: tuple[str, str]) -> None:
    case = replace(DESCRIBED, scale=scale, user_history=(("Kind of Blue", scale.highest, SUMMARY),))
    asked = [EXP3RT.prompt(case), REC_SAVER.prompt(case), REC_SAVER.verify_prompt(case, REASON)]
    for prompt in (*asked, rating_prompt(case)):
        assert f"({ends[0]} being the lowest and {ends[1]} being highest)" in prompt
        assert f"between {ends[0]} and {ends[1]}" in prompt
    assert f"1. Kind of Blue, Rating: {scale.text(scale.highest)}\n" in rating_prompt(case)
    for hinted_prompt in (EXP3RT.reason_prompt(case, scale.highest), REC_SAVER.reason_prompt(case, scale.highest)):
        assert f"The star ranges from {ends[0]} to {ends[1]}" in hinted_prompt


def test_an_answer_in_one_step_is_reason_then_rating() -> None:
    answer = ONESTEP.target(CASE, Lesson(4.0, REASON))
    assert answer == f"Analysis: {REASON}\nPredicted Rating: 4.0"
    assert ONESTEP.head(answer) == (f"Analysis: {REASON}\n", True)
    assert ONESTEP.read(answer) == REASON


def test_a_chain_of_thought_holds_every_summary_and_no_rating_of_the_past() -> None:
    answer = COT.target(NOBODY, Lesson(4.0, REASON, CASE))
    assert answer.startswith("User Preferences:\n1. Kind of Blue\nPositive Aspects:")
    assert "Item Features:\n1. Blue {Train}\nPositive Aspects: Warm Production\nAnalysis: " + REASON in answer
    assert answer.count("Rating") == 1
    assert ONESTEP.read(answer) == REASON


@given(st.text())
def test_an_answer_that_went_astray_is_taken_whole(answer: str) -> None:
    head, finished = ONESTEP.head(answer)
    assert head.endswith("\n")
    assert finished == ("Predicted Rating:" in answer)
    if not finished:
        assert head == answer.strip() + "\n"
