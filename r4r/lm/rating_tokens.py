"""Which tokens spell a rating: derived from the training string, per tokenizer (SPEC section 2)."""

from dataclasses import dataclass

from r4r.errors import ModelError
from r4r.lm.chat import Chat
from r4r.scale import PAPER, Scale

RATINGS = (1, 2, 3, 4, 5)


def rating_text(rating: float, scale: Scale = PAPER) -> str:
    """The training target of the rating experts (paper 3.3)."""
    return f"Predicted Rating: {scale.text(rating)}"


@dataclass(frozen=True)
class RatingTokens:
    """Tokens before the digit, shared by all five ratings, and the five digit tokens."""

    prefix: tuple[int, ...]
    digits: tuple[int, int, int, int, int]


def rating_tokens(chat: Chat, head: str = "") -> RatingTokens:
    """Derive the tokens from `Predicted Rating: 1.0` to `5.0`.

    Args:
        head: what the reply says before the rating; its tokens are part of the prefix.

    Raises:
        ModelError: where a digit is not one token, or the text before it does not tokenize the same way each time.
    """
    spelled = [chat.reply_ids(head + rating_text(rating), end=False) for rating in RATINGS]
    shared = 0
    while all(len(ids) > shared for ids in spelled) and len({ids[shared] for ids in spelled}) == 1:
        shared += 1
    if shared == 0 or any(len(ids) <= shared for ids in spelled):
        raise ModelError("this tokenizer has no stable prefix before the digit of 'Predicted Rating: 5.0'")
    digits = [ids[shared] for ids in spelled]
    for rating, token in zip(RATINGS, digits, strict=True):
        said = chat.tokenizer.decode([token]).strip()
        if said != str(rating):
            raise ModelError(f"this tokenizer spells the digit {rating} of a rating as '{said}'; want it as one token")
    if len({tuple(ids[shared + 1 :]) for ids in spelled}) != 1:
        raise ModelError("this tokenizer's split of 'Predicted Rating: 5.0' after the digit depends on the digit")
    one, two, three, four, five = digits
    return RatingTokens(tuple(spelled[0][:shared]), (one, two, three, four, five))
