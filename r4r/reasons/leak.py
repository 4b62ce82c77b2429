"""Does a reason give away the rating? (SPEC section 3.3)"""

import re

NUMBER = r"(?:one|two|three|four|five|[1-5](?:\.\d)?)"
LEAK = re.compile(
    rf"\bstars?\b|\brat(?:e[ds]?|ings?)\b[^.]{{0,30}}\b{NUMBER}\b|\b{NUMBER}\s*(?:/|out of)\s*(?:5|five)\b"
    r"|(?<![\d.])[1-5]\.0(?![\d])",
    re.IGNORECASE,
)


def leaks_rating(reason: str) -> bool:
    """True for a mention of stars, of a rating with its number, of `4/5`, or of a bare 1.0 to 5.0."""
    return LEAK.search(reason) is not None
