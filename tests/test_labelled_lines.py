"""Summaries in the layouts that chat models choose."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r4r.errors import DataError
from r4r.experts.labelled_lines import labelled_lines
from r4r.experts.summarizer import FIELDS, clean_summary
from r4r.stages.teach import check_empty

LINES = "Positive Aspects: Warm sound, Sturdy build\nNegative Aspects: Thin voice\nUser Preference Elements: Sound"
NOTHING = "Positive Aspects: None\nNegative Aspects: None\nUser Preference Elements: None"

LAYOUTS = {
    "plain": LINES,
    "bullets": "**Positive Aspects:**\n- Warm sound\n- Sturdy build\n\n**Negative Aspects:**\n- Thin voice\n\n"
    "**User Preference Elements:**\n- Sound",
    "one line": "Positive Aspects: Warm sound, Sturdy build; Negative Aspects: Thin voice; "
    "User Preference Elements: Sound",
    "headings": "### Positive Aspects\n1. Warm sound\n2. Sturdy build\n### Negative Aspects\n1) Thin voice\n"
    "### User Preference Elements\n* Sound\n\nI hope that this helps!",
    "numbered": "1. **Positive Aspects**: Warm sound, Sturdy build\n2. **Negative Aspects**: Thin voice.\n"
    "3. **User Preference Elements**: Sound",
    "indented": "- Positive Aspects:\n    - Warm sound\n    - Sturdy build\n- Negative Aspects:\n    - Thin voice\n"
    "- User Preference Elements:\n    - Sound",
    "spaced bullets": "Positive Aspects:\n\n• Warm sound\n\n• Sturdy build\n\nNegative Aspects:\n\n• Thin voice\n\n"
    "User Preference Elements:\n\n• Sound",
    "lines below": "Positive Aspects:\nWarm sound, Sturdy build\n\nNegative Aspects:\nThin voice\n\n"
    "User Preferences:\nSound",
    "wrapped": "Positive Aspects: Warm sound,\n  Sturdy build\nNegative Aspects: Thin voice\n"
    "User Preference Elements: Sound",
    "lines": "Positive Aspects:\nWarm sound\nSturdy build\n\nNegative Aspects:\nThin voice.\n\n"
    "User Preference Elements:\nSound\nI hope that this helps you!",
    "sentences": "Positive Aspects:\nWarm sound.\nSturdy build.\nNegative Aspects:\nThin voice.\n"
    "User Preference Elements:\nSound.",
    "table": "| Positive Aspects | Warm sound, Sturdy build |\n|---|---|\n| Negative Aspects | Thin voice |\n"
    "| User Preference Elements | Sound |",
    "columns": "| Positive Aspects | Negative Aspects | User Preference Elements |\n|---|---|---|\n"
    "| Warm sound | Thin voice | Sound |\n| Sturdy build | | |",
    "json": '```json\n{"Positive Aspects": ["Warm sound", "Sturdy build"], "negative_aspects": "Thin voice",\n'
    '"User Preference Elements": ["Sound"]}\n```',
    "html": "<b>Positive Aspects:</b><ul><li>Warm sound</li><li>Sturdy build</li></ul>"
    "<b>Negative Aspects:</b> Thin voice<br><b>User Preference Elements:</b> Sound",
    "dashes": "Positive Aspects – Warm sound, Sturdy build\nNegative Aspects – Thin voice\n"
    "User Preference Elements – Sound",
    "any case": "positive aspects:Warm sound, Sturdy build\nNEGATIVE ASPECTS (faults):Thin voice\n"
    "user preference elements:Sound",
    "signs": "✅ Positive Aspects: Warm sound, Sturdy build\n❌ Negative Aspects: Thin voice\n"
    "🎯 User Preference Elements: Sound",
    "fence": f"Here it is:\n```\n{LINES}\n```\nNote that the rating was low.",
    "other order": "User Preference Elements: Sound\nNegative Aspects: Thin voice\n"
    "Positive Aspects: Warm sound, Sturdy build",
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("once", [True, False])
def test_any_common_layout_is_read(layout: str, once: bool) -> None:
    assert clean_summary(LAYOUTS[layout], once) == LINES


@pytest.mark.parametrize(
    "word", ["", "-", "None", "none.", "N/A", "None mentioned", "Not specified in the review", "n/a (short)"]
)
def test_what_says_that_there_is_nothing_is_none(word: str) -> None:
    text = f"Positive Aspects: Warm sound, Sturdy build\nNegative Aspects: {word}\nUser Preference Elements:\n- Sound"
    assert clean_summary(text) == LINES.replace("Thin voice", "None")


@pytest.mark.parametrize(
    "remark",
    [
        "Rating: 5",
        "Note that the rating was low",
        "please tell me if more is needed",
        "No further comments",
        "Reasoning",
    ],
)
@pytest.mark.parametrize("items", ["Sound", "None"])
@pytest.mark.parametrize("between", [" ", "\n"])
def test_a_remark_behind_the_last_line_is_no_item(remark: str, items: str, between: str) -> None:
    text = LINES.replace("Elements: Sound", f"Elements:{between}{items}\n{remark}")
    assert clean_summary(text) == LINES.replace("Elements: Sound", f"Elements: {items}")


@pytest.mark.parametrize(
    "remark",
    [
        "Note that the user liked it.",
        "as shown by the five stars given",
        "reason: the user says so",
        'Evidence: "thin"',
        "(The user says so.)",
        "This is clear from the review.",
    ],
)
@pytest.mark.parametrize("between", [" ", "\n"])
def test_a_remark_between_two_lines_is_no_item(remark: str, between: str) -> None:
    text = LINES.replace("Aspects: Thin voice", f"Aspects:{between}Thin voice\n{remark}")
    if between == " " or not remark.startswith("as "):  # which could be an item
        assert clean_summary(text) == LINES


def test_prose_behind_bullets_is_no_item() -> None:
    text = "Likes:\n- a,\n- b,\n\nThese are the likes.\n\nDislikes:\n- c,\n\nOverall the user is picky."
    assert labelled_lines(text, ("Likes", "Dislikes")) == "Likes: a, b\nDislikes: c"
    text = "Likes:\na\nb\nDislikes:\nc\n{}"
    for remark in ("Hope this helps!", "Rating 4", "Rating: 4"):
        assert labelled_lines(text.format(remark), ("Likes", "Dislikes")) == "Likes: a, b\nDislikes: c"


@pytest.mark.parametrize("remark", ["No further comments", "please tell me more", "Reasoning:"])
def test_nothing_goes_on_behind_none(remark: str) -> None:
    text = LINES.replace("Negative Aspects: Thin voice", f"Negative Aspects: None\n{remark}")
    assert clean_summary(text) == LINES.replace("Thin voice", "None")


@pytest.mark.parametrize("item", ["Nothing rattles", "No complaints", "None of them broke", "Not loud, but clear"])
def test_what_only_begins_so_is_an_item(item: str) -> None:
    assert clean_summary(LINES.replace("Thin voice", item)) == LINES.replace("Thin voice", item)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot help with that.",
        "Positive Aspects:\nNegative Aspects:\nUser Preference Elements:",  # headings, and nothing that can be read
        "| Positive Aspects | Negative Aspects | User Preference Elements |\n|---|---|---|",
        "Positive Aspects: Warm sound\nNegative Aspects: Thin voice",
        '{"Positive Aspects": [], "Negative Aspects": null, "User Preference Elements": ""}',
    ],
)
def test_what_cannot_be_read_is_no_summary_and_never_one_of_nones(text: str) -> None:
    assert clean_summary(text, once=True) is None


def test_a_teacher_that_says_it_twice_is_ambiguous_and_a_student_that_repeats_itself_is_not() -> None:
    again = f"{LINES}\n\nFinal version:\n{LINES.replace('Thin voice', 'None')}"
    assert clean_summary(again, once=True) is None
    assert clean_summary(again) == LINES
    assert clean_summary(f"{LINES}\n{LINES}", once=True) == LINES


@given(st.text(st.sampled_from('Positve Aspects:\n-*|{}"<b>1.#;') | st.characters(), max_size=80))
def test_any_text_is_a_summary_or_none(text: str) -> None:
    for told in (text, f"{LINES}{text}", f"{text}\n{LINES}"):
        read = clean_summary(told)
        assert read is None or [line.partition(": ")[0] for line in read.split("\n")] == list(FIELDS)


@given(st.lists(st.text("abcdefgh ", min_size=1, max_size=12).filter(str.strip), min_size=1, max_size=4))
def test_lists_and_lines_say_the_same(items: list[str]) -> None:
    items = [" ".join(item.split()) for item in items]
    bullets = "Likes:\n" + "\n".join(f"- {item}" for item in items) + "\nDislikes: None"
    assert labelled_lines(bullets, ("Likes", "Dislikes")) == f"Likes: {', '.join(items)}\nDislikes: None"


def test_summaries_that_name_nothing_are_counted_and_too_many_stop_the_job() -> None:
    summaries = pd.Series([NOTHING, LINES, NOTHING, LINES])
    assert check_empty(summaries, 0.5) == 2
    with pytest.raises(DataError, match=r"2 of 4 teacher summaries name nothing.*max_empty_share=0\.4"):
        check_empty(summaries, 0.4)
