"""A model that says what a test wants, in place of what its weights would say."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from r4r.lm.engine import HF

CUT = "..."  # at the end of a text: it never comes to its end


def says(patch: pytest.MonkeyPatch, text: Callable[[int, str], str]) -> list[tuple[str, str]]:
    """Have all that is written be this.

    Args:
        text: (seed, prompt) -> an answer.

    Returns:
        What is said from now on: (adapter, text).
    """
    said: list[tuple[str, str]] = []

    def write(
        self: HF,
        prompts: Sequence[Sequence[int]],
        adapter: str | None,
        max_new_tokens: int,
        temperature: float = 0.0,
        seeds: Sequence[int] = (),
    ) -> list[Any]:
        found = []
        for place, ids in enumerate(prompts):
            own = text(seeds[place] if seeds else 0, self.chat.tokenizer.decode(ids))
            said.append((str(adapter), own))
            found.append(self.chat.reply_ids(own, end=not own.endswith(CUT)))
        return found

    patch.setattr(HF, "write", write)
    return said
