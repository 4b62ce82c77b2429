"""How the simulated teacher reasons for Rec-SAVER, and what rating it recovers from a trace."""

import re

from r4r.methods.rec_saver.expert import REASON, VERIFY
from r4r.teacher.registry import Reading, answers
from r4r.teacher.simulated_reasons import MIDDLE, hint_behind, match_histories, verdict_of

HISTORY = r"\A\s*### User Review History ###[ \t]*\n(?P<history>.*?)\n\s*### New Item ###[ \t]*\n.*?"


@answers(
    VERIFY,
    HISTORY + r"\n\s*### Reasoning ###[ \t]*\n(?P<reason>.*)\n\s*### Task: Based on the above history and",
    version=1,
)
def recovered_rating(prompt: Reading, found: re.Match[str]) -> str:
    """The rating that a trace lets expect."""
    return str(prompt.grade(verdict_of(found["reason"]) or MIDDLE))


@answers(REASON, HISTORY + r"\n\s*### Task: From the user's past reviews and ratings, reason", version=2)
def trace(prompt: Reading, found: re.Match[str]) -> str:
    """A reason from the user's history alone."""
    return match_histories(prompt, found["history"], "", hint_behind(prompt, found))
