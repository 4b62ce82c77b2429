"""Does a reason give away the rating? (SPEC section 3.3)"""

import re
from collections.abc import Iterator, Sequence

from r4r.scale import PAPER, Scale

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
TENS = "twenty thirty forty fifty sixty seventy eighty ninety hundred"
WORDS = {w: float(n) for n, w in enumerate(ONES.split())} | {w: 10.0 * n for n, w in enumerate(TENS.split(), 2)}
DIGITS = r"\d+(?:\.\d+)?"
NUMBER = rf"(?<![\w.,$€£/-])(?P<n>{DIGITS}|{'|'.join(sorted(WORDS, key=len, reverse=True))})(?:\s+and\s+a\s+half)?"
TOPS = (5.0, 10.0, 100.0)  # of scales that people rate on, whatever the data's own

# Behind a rating a clause ends, or goes on with such a word; behind a count stands what is counted.
STOP = r"(?!\w|-[A-Za-z]|\.\d)(?=\s*(?:$|[^\w\s(-]|[-–—][\s\d]|\((?!\w))|\s+(?:{})\b)"
SHORT = "stars?|points?|out|or|and|because|since|given|due|overall|based|though|although|but|despite"
LONG = rf"{SHORT}|to|from|by|for|as|in|on|at|when|while|if|with|which|that|is|was|would|will|shows?|suggests?|means"
AFTER_DIGITS, AFTER_WORDS = STOP.format(LONG), STOP.format(SHORT)
RATED = r"(?<!any )(?<!this )\brat(?:e[ds]?|ings?)\b[^.!?;\n]{0,40}?"
GIVEN = (
    r"\b(?:g[ia]v(?:es?|en?|ing)|award(?:s|ed|ing)?|assign(?:s|ed|ing)?|scor(?:es?|ed|ing)|deserv(?:es?|ed|ing)"
    r"|earn(?:s|ed|ing)?|grad(?:es?|ed|ing)|mark(?:s|ed)?|merits?|worth)"
    r"(?:\s+(?!(?:up|in|away|after|to|than|over|from|off|out|by)\b)[\w'’\"]+){0,5}?\s+[\"'(*]*"
)
JUDGED = (
    r"\b(?P<judged>an?\s+(?:(?:solid|strong|perfect|full|clear|firm|weak|low|high|easy|definite|likely|straight|mere"
    r"|generous|near|maximum|rare|possible|probable|certain|safe|whole|flat|good)\s+)?)[\"'(*]*"
)
JUDGED_END = STOP.format("from|overall|out|rating|stars?|points?|or|at best|at most")
# Before a version, a size or a place in a row, which are no ratings; behind a number, what is measured by it.
NAMED = re.compile(
    r"\b(?:the|all|these|those|both|other|bluetooth|usb|hdmi|wi-?fi|web|dolby|surround|android|ios|windows|mac|linux|firmware|version|ver|v|release|update"
    r"|edition|gen|generation|mark|mk|model|series|type|class|size|level|layer|volume|vol|part|chapter|episode|season|book"
    r"|track|song|disc|cd|dvd|act|step|stage|phase|number|no|page|top|first|last|best|next|past|f|pcie?|ddr|java|python)"
    r"\W{0,2}\Z",
    re.IGNORECASE,
)
PRODUCT = re.compile(r"(?<=[\w,;’'] )(?!(?:Rating|Score|Overall|Predicted|Stars?|I)\b)[A-Z][\w'’-]*\W{0,2}\Z")
MEASURE = re.compile(
    r"[\s-]*(?:mm|cm|m|km|in|inch(?:es)?|ft|feet|oz|lbs?|kg|g|v|volts?|w|watts?|a|amps?|m?ah?|[kmg]?hz|mp|[gtm]b|ml|liters?"
    r"|litres?|gallons?|channels?|ch|system|hours?|hrs?|minutes?|mins?|seconds?|secs?|days?|weeks?|months?|years?|speakers?"
    r"|sound|jacks?|percent|degrees?)\b|\s*[\"”″%°]\s*\w",
    re.IGNORECASE,
)
STARS = re.compile(r"[★☆⭐🌟]|\bstars?\b", re.IGNORECASE)


def leaks_rating(reason: str, titles: Sequence[str] = (), scale: Scale = PAPER) -> bool:
    """Whether a reason tells the rating itself, rather than what speaks for it.

    That is: a mention of stars, unless in a name; a number of the scale, in digits or words, behind a word for rating
    or giving, or before the top of a scale (`4/5`, `four of five`); a rating as prompts write it (`4.0`), unless it is
    a version or a measure.

    Args:
        titles: of items that the reason may name; what they hold gives nothing away.
        scale: of the data set's ratings.
    """
    for title in titles:
        for name in (title.strip(), re.split(r"[:(\[]| - ", title)[0].strip()):
            if len(name) > 2 and not re.fullmatch(rf"{NUMBER}(?:[ -]stars?)?", name, re.IGNORECASE):
                reason = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "it", reason, flags=re.IGNORECASE)
    if any(not _in_a_name(reason, star) for star in STARS.finditer(reason)):
        return True
    return any(scale.lowest <= rating <= scale.highest for rating in _told(reason, scale)) or _of_a_top(reason, scale)


def _value(number: str) -> float:
    return WORDS[number.lower()] if number.lower() in WORDS else float(number)


def _told(text: str, scale: Scale) -> Iterator[float]:
    """Numbers that are said to be a rating."""
    for lead in (RATED, GIVEN):
        for found in re.finditer(rf"{lead}{NUMBER}", text, re.IGNORECASE):
            # the lead may reach further numbers behind the first
            for number in re.finditer(NUMBER, text[found.start("n") : found.end() + 30], re.IGNORECASE):
                start, end = (found.start("n") + place for place in number.span())
                between = text[found.end() : start]
                after = AFTER_DIGITS if number["n"][0].isdigit() else AFTER_WORDS
                if re.search(r"[.!?;\n]", between):
                    break
                if re.match(after, text[end:], re.IGNORECASE) and not NAMED.search(text[:start]):
                    yield _value(number["n"])
    for found in re.finditer(rf"{JUDGED}{NUMBER}{JUDGED_END}", text, re.IGNORECASE):
        if found["n"][0].isdigit() or len(found["judged"].split()) > 1:  # "a perfect five"
            yield _value(found["n"])
    written = {scale.text(value) for value in scale.values}
    for found in re.finditer(r"(?<![\d.,$€£/])\d+\.\d+(?![\d/])(?!\.\d)", text):
        before = text[: found.start()]
        versioned = NAMED.search(before) or PRODUCT.search(before) or MEASURE.match(text[found.end() :])
        if found[0] in written and not versioned:
            yield float(found[0])


def _of_a_top(text: str, scale: Scale) -> bool:
    """Whether a number is told with the top of its scale."""
    by_sign = rf"{NUMBER}\s*/\s*(?P<top>{DIGITS})(?![\d/])"
    in_words = rf"{NUMBER}[\s-]+(?P<out>out[\s-]+)?of[\s-]+(?:a[\s-]+(?:possible|total|maximum)[\s-]+)?"
    in_words += rf"(?P<top>{DIGITS}|{'|'.join(WORDS)}){STOP.format(LONG)}"
    for pattern in (by_sign, in_words):
        for found in re.finditer(pattern, text, re.IGNORECASE):
            top = _value(found["top"])
            known = top == scale.highest or (top in TOPS and (pattern == by_sign or found["out"]))
            if known and _value(found["n"]) <= top:
                return True
    return False


def _in_a_name(text: str, star: re.Match[str]) -> bool:
    """Whether a star belongs to a name, in capitals as its neighbour: `Star Wars`, `the Death Star`."""
    if star[0] not in ("Star", "Stars"):
        return False
    before = re.search(r"(\S+)[ -]\Z", text[: star.start()])
    if before and re.fullmatch(rf"{DIGITS}|{'|'.join(WORDS)}", before[1].strip("(*\"'"), re.IGNORECASE):
        return False
    after = re.match(r"(?::? |-)([A-Z][\w'’]+)", text[star.end() :])
    if after and after[1] not in ("Rating", "Ratings", "Review", "Reviews"):
        return True
    return re.search(r"[\w,;] [A-Z][\w'’]+[ -]\Z", text[: star.start()]) is not None
