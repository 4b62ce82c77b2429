"""How the simulated teacher reasons in four steps: what RecOne asks of a teacher."""

import re

from r4r.methods.reczero.expert import PROMPT
from r4r.teacher.registry import Reading, answers
from r4r.teacher.simulated_reasons import MIDDLE, hint_behind, match_histories, verdict_of


@answers(
    PROMPT,
    r"\A\s*### User Review History ###[ \t]*\n(?P<user>.*?)\n\s*### Item Review History by Other Users ###[ \t]*\n"
    r"(?P<item>.*)\n\s*### Average Past Ratings ###.*### Task: Predict the rating that the user will give",
    version=2,
)
def four_steps(prompt: Reading, found: re.Match[str]) -> str:
    """What the user cares about, what the item is praised and criticised for, how the two meet, and the rating."""
    hint = hint_behind(prompt, found)
    user, item, *match = re.split(r"(?<=\.) ", match_histories(prompt, found["user"], found["item"], hint))
    verdict = verdict_of(" ".join(match)) or round(MIDDLE)
    rating = round(hint) if hint is not None and not prompt.slips() else verdict
    steps = {"analyze user": user, "analyze item": item, "match": " ".join(match), "rate": str(rating)}
    return "\n".join(f"<{step}>{text}</{step}>" for step, text in steps.items())
