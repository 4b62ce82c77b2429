"""What gives a rating away, on any scale, and what only looks as if it did."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r4r.reasons.leak import leaks_rating
from r4r.scale import PAPER, Scale

TEN, HALVES = Scale(lowest=1, highest=10), Scale(lowest=0.5, highest=5, step=0.5)
HUNDRED, QUARTERS = Scale(lowest=0, highest=100), Scale(lowest=0, highest=1, step=0.25)
LEAKS = [
    "The user would give it 4 stars.",
    "A five-star album",
    "she is the star of the show",
    "Rating: 4",
    "the user rated it four",
    "The user's rating of 4 shows it",
    "They would rate it 5",
    "would be rated as high as 4.5",
    "ratings between four and five",
    "I would call it 4/5",
    "4 out of 5",
    "four out of five",
    "4.5/5",
    "a solid 4.0",
    "(4.0)",
    "It is a 5.0.",
    "STARS",
    "The user gave it a 4 because it is loud.",
    "gives this album a perfect 5",
    "deserves a five",
    "a score of 4",
    "They would score it 3.",
    "would be given four",
    "the album earns a 4 from them",
    "awarded it 5",
    "a 4 from this user",
    "it would be a 5",
    "a perfect five",
    "rates it 2 at most",
    "rated it one",
    "a rating of about 3.5",
    "rated 4-5",
    "4 of 5",
    "four of five",
    "four-out-of-five",
    "4 / 5",
    "(4/5)",
    "9/10",
    "8 out of 10",
    "5-star",
    "five stars",
    "5 Star",
    "Five Star quality",
    "★★★★☆",
    "Overall 4.0",
    "gave the Star Wars film a 4",
]
CLEAN = [
    "The user will enjoy the melody.",
    "Track 5 has a strong melody",
    "an album of 5 songs",
    "14.0 minutes of noise",
    "version 4.05 of the pedal",
    "released in 2004",
    "a starting point for the user",
    "this frustrated the user over four songs",
    "the operating noise of 5 fans",
    "one of the best, generating two hits",
    "1 of 12 songs",
    "4 out of 12 songs",
    "price of 3.50",
    "The user rated similar albums highly. Two songs stand out.",
    "rated as one of the best",
    "It is rated one of the best guitars.",
    "rated among the top 5",
    "one of the highest rated of all five albums",
    "They rated two similar items highly.",
    "highly rated by four friends",
    "rated at 5 watts",
    "at this rate 5 would fail",
    "The user loves Star Wars.",
    "The Death Star model pleased them",
    "The Lone Star album",
    "Star Trek: Picard",
    "Bluetooth 5.0",
    "Bluetooth 5.0 is appreciated",
    "with USB 3.0 ports",
    "likes the JBL 4.0",
    "version 4.0",
    "f/2.0 lens",
    "5.0 inches",
    "a 2.0 channel system",
    "price of $4.0",
    "gives one the feeling of warmth",
    "gives two reasons",
    "gives 2 cables for the price",
    "gave up after 3 songs",
    "worth two of the others",
    "marks 5 years of use",
    "4 out of 5 songs are good",
    "one of 5 albums",
    "released on 4/5/2014",
    "in 3/4 time",
    "a 5 string bass",
    "a size 5 fits",
]


@pytest.mark.parametrize("text", LEAKS)
def test_a_leak_is_seen(text: str) -> None:
    assert leaks_rating(text)


@pytest.mark.parametrize("text", CLEAN)
def test_what_is_no_leak_passes(text: str) -> None:
    assert not leaks_rating(text)


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("Star Wars: Episode IV", "a fan of the star wars saga"),
        ("stars on 45", "The user likes Stars On 45 and its medleys."),
        ("Rated R", "as Rated R 5 times over"),
    ],
)
def test_a_title_gives_nothing_away(title: str, text: str) -> None:
    assert not leaks_rating(text, [title])
    assert leaks_rating(f"{text}, and they gave it a 4", [title])
    assert leaks_rating("They gave it 4 stars.", [title])


@pytest.mark.parametrize("title", ["4 Stars", "Five", "5"])
def test_a_title_that_reads_like_a_rating_hides_none(title: str) -> None:
    assert leaks_rating(f"They gave it {title}.", [title])


SCALES = st.sampled_from([PAPER, TEN, HALVES, HUNDRED, QUARTERS])
SAID = [
    "The user would rate it {0}.",
    "their rating of {0} shows it",
    "They gave it a {0}",
    "it deserves {0} overall",
    "{0}/{1}",
    "{0} out of {1}",
    "they score this {0}, as before",
]


@given(SCALES.flatmap(lambda scale: st.tuples(st.just(scale), st.sampled_from(scale.values))), st.sampled_from(SAID))
def test_every_rating_of_a_scale_is_seen(rated: tuple[Scale, float], said: str) -> None:
    scale, rating = rated
    for text in (f"{rating:g}", scale.text(rating)):
        assert leaks_rating(said.format(text, f"{scale.highest:g}"), scale=scale)
    assert leaks_rating(f"It is a {scale.text(rating)}.", scale=scale)


@given(SCALES, st.floats(1, 1000), st.sampled_from(SAID[:4]))
def test_no_number_beyond_the_scale_is_a_rating(scale: Scale, beyond: float, said: str) -> None:
    assert not leaks_rating(said.format(f"{scale.highest + beyond:.2f}", ""), scale=scale)


@pytest.mark.parametrize(
    ("scale", "text", "leaks"),
    [
        (TEN, "gave it seven", True),
        (TEN, "7 of 10", True),
        (TEN, "a 7.0", True),
        (PAPER, "a 7.0", False),
        (HALVES, "at 3.5", True),
        (PAPER, "at 3.5", False),
        (HALVES, "with a 3.5 mm jack", False),
        (HUNDRED, "rated it eighty", True),
        (HUNDRED, "gave it a 0", True),
        (PAPER, "gave it a 0", False),
        (HUNDRED, "one of the best of 2014", False),
        (QUARTERS, "0.75", True),
    ],
)
def test_the_scale_says_what_a_rating_is(scale: Scale, text: str, leaks: bool) -> None:
    assert leaks_rating(text, scale=scale) is leaks


@given(st.text(max_size=200), st.lists(st.text(max_size=10), max_size=2))
def test_any_text_is_judged(text: str, titles: list[str]) -> None:
    assert leaks_rating(text, titles) in (True, False)
    assert leaks_rating(f"{text}. They gave it a 4.", [])
