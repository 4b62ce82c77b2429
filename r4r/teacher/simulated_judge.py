"""How the simulated teacher judges a reason: by what it and the review say of which aspects, and by the verdict."""

import re

from r4r.lexicon import Cue, remark_in
from r4r.teacher.registry import Reading, answers
from r4r.teacher.simulated_reasons import verdict_of

SPREAD = 4  # rating points between the best and the worst verdict


@answers(
    "gptscore",
    r"\A\s*### Predicted Reason ###[ \t]*\n(?P<reason>.*?)\n\s*### Actual Review of the [^\n]*###[ \t]*\n"
    r"(?P<review>.*?)\n\s*### Task: The reason was written to predict",
    version=1,
)
def judgement(prompt: Reading, found: re.Match[str]) -> str:
    """The score of a reason; now and then, it chats instead of answering."""
    told, said = prompt.cues(found["reason"]), prompt.cues(found["review"])
    score = judged(told, said, verdict_of(found["reason"]), grade_of_review(found["review"], said))
    return f"They agree to some degree, {score} perhaps." if prompt.slips() else str(score)


def judged(reason: list[Cue], review: list[Cue], verdict: int | None, grade: int | None) -> int:
    """A score, 0 to 100: half for opinions in common (F1; a contrary one counts against it), half for near verdicts.

    Args:
        verdict, grade: the rating, 1 to 5, that the reason and the review stand for; None where there is none.
    """
    told, said = set(_opinions(reason)), set(_opinions(review))
    same = len(told & said)
    contrary = sum((aspect, not liked) in said for aspect, liked in told - said)
    shared = max(0, 2 * same - contrary) / (len(told) + len(said)) if told and said else 0.0
    near = 0.0 if verdict is None or grade is None else 1 - abs(verdict - grade) / SPREAD
    return round(50 * shared + 50 * near)


def grade_of_review(review: str, read: list[Cue]) -> int | None:
    """By its closing remark, else by what it praises and faults; None where it does neither."""
    remark = remark_in(review)
    opinions = _opinions(read)
    if remark is not None or not opinions:
        return remark
    return min(5, max(1, 3 + sum(1 if liked else -1 for _, liked in opinions)))


def _opinions(read: list[Cue]) -> list[tuple[str, bool]]:
    return [(cue.aspect, cue.kind == "positive") for cue in read if cue.kind != "preference"]
