"""What calls cost, before and after: dollars from tokens, a bound that no call can pass, and rough token counts."""

from r4r.configuration.teachers import PriceConfig, RemoteConfig
from r4r.teacher.base import Call

CHARS_A_TOKEN = 4  # English text: the usual rule of thumb, for plans and rate limits only
CHAT_OVERHEAD = 64  # tokens that a chat template may add around one message, generously


def price_of(teacher: RemoteConfig) -> PriceConfig | None:
    return teacher.prices.get(teacher.model)


def dollars(price: PriceConfig | None, tokens_in: int, tokens_out: int) -> float | None:
    """None where no price is known."""
    return None if price is None else (tokens_in * price.input + tokens_out * price.output) / 1e6


def worst_case(price: PriceConfig, call: Call) -> float:
    """Dollars that a call cannot pass: a token is at least one byte of UTF-8, and an answer at most max_tokens."""
    bytes_in = len(call.prompt.encode()) + CHAT_OVERHEAD
    return (bytes_in * price.input + call.max_tokens * price.output) / 1e6


def tokens_about(text: str) -> int:
    return -(-len(text) // CHARS_A_TOKEN)
