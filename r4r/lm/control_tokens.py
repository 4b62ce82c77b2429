"""A tokenizer for which control tokens come from the chat template alone: whatever a text spells, it stays text.

Tokenizers match their added tokens anywhere in what they are given, so a review that holds `<|im_end|>` would close the
user's turn. Here every control token has a private name, which no text can spell; the template's own are called by it.
"""

import json
import re
import secrets
from typing import Any

from tokenizers import Tokenizer

from r4r.errors import ModelError

BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")  # what a SentencePiece model spells unknown characters with
MARKUP = re.compile(r"<.*>|\[.*\]", re.DOTALL)  # `<think>`, `[INST]`: control tokens that are not declared special


class GuardedTokenizer:
    """A fast tokenizer of transformers with its control tokens renamed; ids are the original's.

    Attributes:
        control_ids: ids that no plain text becomes: the special tokens, and added tokens that look like markup.
        special_ids: those of them that are declared special, which generated texts are shown without.
    """

    def __init__(self, tokenizer: Any):
        """
        Raises:
            ModelError: the tokenizer has no fast form.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ModelError("the base model's tokenizer has no fast form (tokenizer.json); take a model that has one")
        state = json.loads(backend.to_str())
        secret = secrets.token_hex(8)
        words = _merged(state["model"])
        # a tokenizer that declares its bytes must go on spelling with them, and find none in a text
        state["added_tokens"] = [t for t in state["added_tokens"] if not BYTE.fullmatch(t["content"])]
        self._names = {
            token["content"]: f"\ue000{secret}{token['id']}\ue001"
            for token in state["added_tokens"]
            if _is_control(token) and token["content"] not in words
        }
        self.control_ids = frozenset(t["id"] for t in state["added_tokens"] if t["content"] in self._names)
        self.special_ids = frozenset(t["id"] for t in state["added_tokens"] if t["special"]) & self.control_ids
        self._rename(state)
        self._backend = Tokenizer.from_str(json.dumps(state))
        for token in state["added_tokens"]:
            if self._backend.token_to_id(token["content"]) != token["id"]:
                raise ModelError(
                    f"the base model's tokenizer gives its token {token['id']} another id when it is copied"
                )
        longest_first = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if self._names else None

    def ids(self, before: str, text: str = "", after: str = "") -> list[int]:
        """Token ids of the three read as one; control tokens are seen in `before` and `after`, never in `text`."""
        return list(self._encoding(self._named(before) + _valid(text) + self._named(after)).ids)

    def plain(self, text: str) -> list[int]:
        """Token ids of a text, none of them a control token."""
        return list(self._encoding(_valid(text)).ids)

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """(first, end) of each token of a text, in characters."""
        return list(self._encoding(_valid(text)).offsets)

    def _encoding(self, text: str) -> Any:
        return self._backend.encode(text, add_special_tokens=False)

    def _named(self, template: str) -> str:
        if self._pattern is None:
            return template
        return self._pattern.sub(lambda found: self._names[found.group()], template)

    def _rename(self, state: dict[str, Any]) -> None:
        model = state["model"]
        for token in state["added_tokens"]:
            token["content"] = self._names.get(token["content"], token["content"])
        if isinstance(model["vocab"], dict):
            model["vocab"] = {self._names.get(piece, piece): place for piece, place in model["vocab"].items()}
        else:
            model["vocab"] = [[self._names.get(piece, piece), score] for piece, score in model["vocab"]]
        if model.get("unk_token") in self._names:
            model["unk_token"] = self._names[model["unk_token"]]
        state |= {"post_processor": None, "truncation": None, "padding": None}


def _is_control(token: dict[str, Any]) -> bool:
    """Runs of white space are ordinary text, whatever the tokenizer calls them (Gemma, GPT-NeoX)."""
    content = token["content"]
    return not content.isspace() and bool(token["special"] or MARKUP.fullmatch(content))


def _merged(model: dict[str, Any]) -> set[str]:
    """Pieces that a text's own characters are merged to: ordinary words, also where they serve as padding or end."""
    pairs = model.get("merges", ())
    return {"".join(pair.split(" ") if isinstance(pair, str) else pair) for pair in pairs}


def _valid(text: str) -> str:
    """Half a surrogate pair is no text: it becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")
