"""What people say of an album: its aspects, the many words for each, and a reader of them.

The simulated world writes reviews with these words; the simulated teacher and the analyses read with them.
A small closed language: whoever reads through it knows the words, never who planted which aspect where.
"""

import re
from collections.abc import Iterable
from functools import cache
from typing import Literal, NamedTuple

Kind = Literal["positive", "negative", "preference"]
POSITIVE: Kind = "positive"
NEGATIVE: Kind = "negative"
KINDS: tuple[Kind, ...] = ("positive", "negative", "preference")


class Aspect(NamedTuple):
    """One aspect. `~` in a verb phrase stands for the ending of the third person singular."""

    praised: str  # the adjective of its praising keyword: "Catchy" of "Catchy Melody"
    faulted: str
    singular: tuple[str, ...]
    plural: tuple[str, ...]
    good: tuple[str, ...]  # adjectives
    bad: tuple[str, ...]
    good_does: tuple[str, ...]  # verb phrases
    bad_does: tuple[str, ...]
    good_idioms: tuple[str, ...]  # whole clauses that need none of the nouns
    bad_idioms: tuple[str, ...]


ASPECTS: dict[str, Aspect] = {
    "Melody": Aspect(
        "Catchy", "Forgettable",
        ("melody", "tune", "songcraft"), ("melodies", "tunes", "hooks", "choruses"),
        ("catchy", "hummable", "sweet"), ("forgettable", "shapeless", "tuneless"),
        ("stick~ in your head", "stay~ with you for days"), ("slip~ away at once", "lead~ nowhere"),
        ("I keep humming it at work", "I was whistling along by the second listen"),
        ("there is nothing here to hum", "a minute later I could not recall a single bar"),
    ),
    "Lyrics": Aspect(
        "Clever", "Weak",
        ("lyric writing", "wordplay", "storytelling"), ("lyrics", "verses", "words"),
        ("clever", "thoughtful", "poetic"), ("clumsy", "corny", "trite"),
        ("say~ something real", "reward~ close attention"), ("read~ like a greeting card", "make~ me cringe"),
        ("each song tells a story worth hearing", "he writes like a good novelist"),
        ("it all rhymes like a nursery book", "a teenager's diary has more to say"),
    ),
    "Vocals": Aspect(
        "Soulful", "Strained",
        ("singing", "voice", "vocal delivery"), ("vocals", "vocal harmonies"),
        ("soulful", "soaring", "velvety"), ("nasal", "off-key", "strained"),
        ("give~ me chills", "fill~ the room"), ("grate~ on my nerves", "crack~ on the high notes"),
        ("she could sing the phone book and I would listen", "I get goosebumps whenever he opens his mouth"),
        ("he cannot hold a note", "she sounds hoarse from start to finish"),
    ),
    "Production": Aspect(
        "Crisp", "Muddy",
        ("production", "mixing", "sound quality", "mastering", "recording"), ("recordings",),
        ("crisp", "polished", "warm"), ("muddy", "tinny", "distorted"),
        ("come~ alive on good speakers", "bring~ out each detail"), ("hurt~ the ears", "drown~ in noise"),
        ("it shines on a decent stereo", "you hear each instrument clearly in headphones"),
        ("it is all hiss and mud", "it sounds like it was taped in a bathroom"),
    ),
    "Rhythm": Aspect(
        "Tight", "Sluggish",
        ("rhythm", "beat", "drumming", "bass line"), ("drums", "beats", "grooves"),
        ("tight", "danceable", "bouncy"), ("sluggish", "plodding", "wooden"),
        ("make~ you tap your feet", "lock~ in nicely"), ("drag~ badly", "stumble~ all along"),
        ("my feet would not stay still", "we danced to it in the kitchen"),
        ("nobody could dance to this", "someone give that drummer a metronome"),
    ),
    "Guitar": Aspect(
        "Fiery", "Sloppy",
        ("guitar", "guitar work", "guitar playing", "fretwork"), ("guitars", "riffs", "guitar solos"),
        ("fiery", "nimble", "tasty"), ("sloppy", "aimless", "screechy"),
        ("burn~ from the first bar", "cut~ right through"), ("noodle~ on and on", "miss~ half the notes"),
        ("I dusted off my old Fender after hearing it", "those fingers fly over the strings"),
        ("he plays like someone after a month of lessons", "the strings buzz all over the place"),
    ),
    "Originality": Aspect(
        "Fresh", "Derivative",
        ("originality", "creativity", "imagination", "inventiveness"), ("ideas", "experiments"),
        ("fresh", "inventive", "daring"), ("derivative", "recycled", "unoriginal"),
        ("break~ new ground", "surprise~ at each turn"), ("feel~ borrowed", "imitate~ older bands"),
        ("I have never heard anything like it", "it sounds like nobody else"),
        ("I have heard it all before", "it is a copy of a copy"),
    ),
    "Variety": Aspect(
        "Rich", "Limited",
        ("variety", "diversity", "range of styles", "mix of styles"), ("changes of style", "style shifts"),
        ("rich", "wide", "colourful"), ("limited", "narrow", "samey"),
        ("keep~ you guessing", "take~ you everywhere"), ("run~ out fast", "amount~ to nothing"),
        ("no two songs are alike", "each track goes somewhere different"),
        ("every song sounds the same", "I could not tell one track from the next"),
    ),
    "Energy": Aspect(
        "Electric", "Lifeless",
        ("energy", "drive", "intensity", "punch"), ("energy levels", "fast numbers"),
        ("electric", "explosive", "infectious"), ("lifeless", "limp", "sleepy"),
        ("never let~ up", "get~ the blood pumping"), ("fizzle~ out early", "put~ me to sleep"),
        ("it gets me through the gym", "I had to turn it up in the car"),
        ("I nearly nodded off", "it never gets out of first gear"),
    ),
    "Emotion": Aspect(
        "Moving", "Hollow",
        ("emotion", "feeling", "passion", "sincerity"), ("emotions", "heartfelt moments"),
        ("moving", "honest", "tender"), ("hollow", "fake", "sappy"),
        ("hit~ you in the chest", "ring~ true"), ("feel~ put on", "leave~ you untouched"),
        ("I teared up more than once", "it got me through a hard winter"),
        ("it left me stone cold", "I felt nothing at all"),
    ),
    "Pacing": Aspect(
        "Smooth", "Uneven",
        ("pacing", "flow", "track order", "sequencing"), ("transitions", "song lengths"),
        ("smooth", "well judged", "natural"), ("uneven", "choppy", "jarring"),
        ("pull~ you along", "work~ from start to end"), ("stall~ halfway", "wear~ you out"),
        ("I never reach for the skip button", "it is over before you know it"),
        ("the second half goes on forever", "half of it should have been cut"),
    ),
    "Value": Aspect(
        "Good", "Poor",
        ("price", "value", "value for money", "cost"), ("prices", "import prices"),
        ("fair", "generous", "unbeatable"), ("steep", "stingy", "outrageous"),
        ("make~ it a bargain", "leave~ nothing to complain of"), ("make~ it a rip-off", "drain~ your wallet"),
        ("you get so much music for so little money", "it was worth every penny"),
        ("I paid far too much for what you get", "half an hour of music is daylight robbery"),
    ),
    "Artwork": Aspect(
        "Beautiful", "Ugly",
        ("artwork", "cover", "booklet", "packaging"), ("liner notes", "photos"),
        ("tasteful", "gorgeous", "stylish"), ("ugly", "flimsy", "blurry"),
        ("look~ lovely on the shelf", "deserve~ a frame"), ("look~ like a bootleg", "fall~ apart in your hands"),
        ("I hung the sleeve on my wall", "it is a treat to hold and look at"),
        ("it comes in a bare paper sleeve", "the sleeve looks like clip art"),
    ),
    "Atmosphere": Aspect(
        "Dreamy", "Sterile",
        ("atmosphere", "mood", "ambience", "vibe"), ("soundscapes", "textures"),
        ("dreamy", "hypnotic", "haunting"), ("sterile", "bland", "chilly"),
        ("draw~ you in", "wrap~ around you"), ("never take~ hold", "kill~ the evening"),
        ("I put it on with the lights low and drift off", "it takes you to another place"),
        ("it feels like a dentist's waiting room", "it is pure elevator music"),
    ),
}  # fmt: skip

# Said of any aspect.
GOOD = ("great", "superb", "excellent", "wonderful", "terrific", "impressive", "delightful", "brilliant")
BAD = ("poor", "weak", "disappointing", "awful", "mediocre", "tiresome", "terrible", "annoying")
ENJOY = ("love", "adore", "really enjoy", "can't get enough of", "admire", "keep coming back for", "cannot fault")
SUFFER = ("can't stand", "dislike", "could do without", "could not warm to", "am fed up with", "can't get past")
WON_BY = ("won over by", "blown away by", "taken with", "charmed by")
LOST_BY = ("let down by", "put off by", "unimpressed by", "annoyed by")
WINS = ("won me over", "made my day", "saved the day", "exceeded my hopes")
LOSES = ("let me down", "spoiled it for me", "ruined it", "fell short of my hopes")
PRIZED = ("a treat", "the best part", "a highlight", "a joy")
PITIED = ("the weak spot", "a mess", "the worst part", "a chore")
SALUTE = ("no complaints about", "hats off for", "I was pleased with", "thumbs up for")
GRUMBLE = ("it is a shame about", "too bad about", "I had to wince at", "thumbs down for")
STRONG = ("absolutely", "truly", "incredibly", "downright")
MILD = ("fairly", "a bit", "rather", "somewhat")

# Preference statements: `{n}` is a noun of the aspect, `{be}` agrees with it. `the` keeps every noun countable.
PREFERENCES = (
    "I buy records for the {n}",
    "for me it is all about the {n}",
    "I always listen for the {n} first",
    "what I look for in an album is the {n}",
    "I judge an album by its {n}",
    "I care a lot about the {n} in music",
    "the {n} {be} what matters most to me",
    "the {n} {be} usually my reason to buy",
    "I am the kind of listener who lives for the {n}",
    "as someone who pays attention to the {n} I had to try this",
)

# What a reviewer says in the end, by rating; it names no aspect.
REMARKS: dict[int, tuple[str, ...]] = {
    1: ("a complete waste of time", "I want my money back", "avoid this one", "I gave it away the same day",
        "one of the worst I own"),
    2: ("I expected a lot more", "not one I will play again soon", "I cannot really recommend it",
        "on the whole a letdown", "I regret buying it a little"),
    3: ("it is okay", "some of it works and some does not", "decent but nothing special", "I am in two minds about it",
        "an average release"),
    4: ("I am glad I bought it", "well worth a listen", "a good one on the whole", "I would recommend it",
        "I play it quite often"),
    5: ("an instant favorite", "I cannot recommend it enough", "simply a masterpiece", "best purchase of the year",
        "get it right now"),
}  # fmt: skip


class Cue(NamedTuple):
    """One thing that a text says of one aspect."""

    aspect: str
    kind: Kind


def keyword(aspect: str, kind: Kind) -> str:
    """The short Title Case keyword of a summary: "Catchy Melody", "Forgettable Melody", "Melody"."""
    words = ASPECTS[aspect]
    if kind == "preference":
        return aspect
    return f"{words.praised if kind == 'positive' else words.faulted} {aspect}"


def conjugate(phrase: str, plural: bool) -> str:
    """A verb phrase with its verb made to agree: "stick~ out" gives "stick out" or "sticks out"."""
    if plural:
        return phrase.replace("~", "")
    return re.sub(r"(\w)~", lambda m: m[1] + ("es" if m[1] in "sxz" else "s"), phrase)


def remark_in(text: str) -> int | None:
    """The rating (1 to 5) that the text's closing remark stands for, or None where it makes none."""
    low = text.lower()
    hits = [(low.rfind(phrase.lower()), len(phrase), grade) for grade in REMARKS for phrase in REMARKS[grade]]
    at, _, grade = max(hits)
    return grade if at >= 0 else None


def cues(text: str) -> list[Cue]:
    """What free text says of which aspects, in order of first mention, once each."""
    found: dict[Cue, None] = {}
    for sentence in re.split(r"[.!?\n]+", text.lower()):
        for match in _idioms()[0].finditer(sentence):
            found[_idioms()[1][match[0]]] = None
        sentence = _idioms()[0].sub(" ", sentence)
        for clause in re.split(r"[,;]| but | though | while | yet ", sentence):
            spans = [(m.start(), m.end(), m[0]) for m in _nouns()[0].finditer(clause)]
            if _PREFERENCE.search(clause):
                found.update({Cue(_nouns()[1][noun], "preference"): None for _, _, noun in spans})
                continue
            tones = [(m.start(), m.end(), _tone(clause, m)) for m in _tones()[0].finditer(clause)]
            for start, end, noun in spans if tones else ():
                near = min(tones, key=lambda t: max(t[0] - end, start - t[1]))
                found[Cue(_nouns()[1][noun], near[2])] = None
    return list(found)


def aspects_in(summary: str) -> dict[Kind, list[str]]:
    """The aspects that a three-line summary names on each of its lines, in order and once each.

    Lenient, for summaries may come from a small model: a missing line reads as empty, an unknown keyword as nothing,
    and the last known word of a keyword decides ("Emotional Vocals" is Vocals).

    Returns:
        kind ("positive", "negative", "preference") -> aspect names, all of `ASPECTS`.
    """
    out: dict[Kind, list[str]] = {kind: [] for kind in KINDS}
    parts = _LABEL.split(summary.lower())
    for label, body in zip(parts[1::2], parts[2::2], strict=True):
        kind: Kind = "positive" if "pos" in label else "negative" if "neg" in label else "preference"
        for entry in re.split(r"[,;\n]", body):
            nouns = _nouns()[0].findall(entry)
            if nouns and (aspect := _nouns()[1][nouns[-1]]) not in out[kind]:
                out[kind].append(aspect)
    return out


def has_summary_lines(text: str) -> bool:
    """Whether the text is laid out as a summary (has at least one of its labels)."""
    return bool(_LABEL.search(text))


_LABEL = re.compile(r"(positive aspects?|negative aspects?|(?:user )?preference elements?)\s*:", re.IGNORECASE)
_PREFERENCE = re.compile(
    "|".join(re.escape(form).replace(r"\{n\}", ".+").replace(r"\{be\}", "(?:is|are)") for form in PREFERENCES), re.I
)
_NEGATION = re.compile(r"\b(?:not|never|hardly|isn't|aren't|no)\b[\w ]{0,8}$")


def _tone(clause: str, match: re.Match[str]) -> Kind:
    good = _tones()[1][match[0]] == "positive"
    return "positive" if good != bool(_NEGATION.search(clause[: match.start()])) else "negative"


def _alternation(phrases: Iterable[str]) -> re.Pattern[str]:
    return re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(phrases, key=len, reverse=True))) + r")\b")


@cache
def _nouns() -> tuple[re.Pattern[str], dict[str, str]]:
    table = {noun: name for name, words in ASPECTS.items() for noun in (*words.singular, *words.plural, name.lower())}
    return _alternation(table), table


@cache
def _idioms() -> tuple[re.Pattern[str], dict[str, Cue]]:
    table: dict[str, Cue] = {}
    for name, words in ASPECTS.items():
        table |= {idiom.lower(): Cue(name, "positive") for idiom in words.good_idioms}
        table |= {idiom.lower(): Cue(name, "negative") for idiom in words.bad_idioms}
    return _alternation(table), table


@cache
def _tones() -> tuple[re.Pattern[str], dict[str, Kind]]:
    table: dict[str, Kind] = {}
    for words in ASPECTS.values():
        for does, kind in ((words.good_does, POSITIVE), (words.bad_does, NEGATIVE)):
            table |= {conjugate(phrase, plural).lower(): kind for phrase in does for plural in (False, True)}
        table |= dict.fromkeys(words.good, POSITIVE) | dict.fromkeys(words.bad, NEGATIVE)
    table |= dict.fromkeys((p.lower() for p in (*GOOD, *ENJOY, *WON_BY, *WINS, *PRIZED, *SALUTE)), POSITIVE)
    table |= dict.fromkeys((p.lower() for p in (*BAD, *SUFFER, *LOST_BY, *LOSES, *PITIED, *GRUMBLE)), NEGATIVE)
    return _alternation(table), table
