"""How the simulated teacher answers the few-shot prompt."""

import re

from r4r.methods.fewshot.method import RATE
from r4r.teacher.registry import Reading, answers
from r4r.teacher.simulated_reasons import MIDDLE

PAST_RATING = re.compile(r", Rating: ([1-5](?:\.\d+)?)$", re.MULTILINE)


@answers(
    RATE,
    r"\A\s*Here is the user's rating history:[ \t]*\n(?P<history>.*)\n\s*Based on the above rating history",
    version=1,
)
def few_shot_rating(prompt: Reading, found: re.Match[str]) -> str:
    """The mean of the past ratings; now and then, it chats instead of answering."""
    past = [float(rating) for rating in PAST_RATING.findall(found["history"])]
    grade = prompt.grade(sum(past) / len(past) if past else MIDDLE)
    if prompt.slips():
        return f"I think that they would be fine with it, {grade} perhaps."
    return prompt.rng.choice((f"{grade}", f"{grade}.0", f"{grade} stars"))
