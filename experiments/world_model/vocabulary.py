"""The tokenizer of the small base model: digits one by one, whole words, bytes for all else."""

import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import liking
import lists
import matching
import reading
import wording
import worlds

from r4r import lexicon
from r4r.data import review_text, simulator
from r4r.lm.tiny import CHAT, SPECIAL

PIECE = r"\d|[^\S ]| ?\p{L}+(?:'\p{L}+)?| ?[^\s\p{L}\d]| +"
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
# Everyday English, so that a text on a record costs few tokens.
ENGLISH = """
a about above across after again against all almost along already also although always am among an and another any
anyone anything are around as ask at average away back bad based be because become been before behind being below
best better between beyond big both bring but by call can cannot care cares case certain choose clear clearly close
come common complete concise consider considering could customer day deal decide deep describe detail did different
directly disappoint disappointed dislike dislikes do does done down each early easy either else end enough even every
everyone everything example expect expected experience extent fact fair far feature features feel feels few find finds
first fit fits following for format found from full gave general get give given gives go going good great had half
happy hard has hate hates have having he hear heard help her here high higher highest him his how however if important
in information inside instead into is it item items its just keep keyword keywords kind know known large last late
later lean least less let level like liked likely likes line lines list listen listener listeners listens little long
look looks loses lot love loves low lower lowest made main mainly make makes many match matches matter matters may
mean meet meets might mind miss misses mix mixed more most mostly much must name names near need needs neither never
new next no none nor not note notes nothing now number of off offer offers often old on once one only opinion or order
other others our out over overall own pair paragraph part past pay people perhaps person piece plain please pleased
point points poor positive predict predicted prefer preference preferences prefers previous probably product products
provide purchase put question quite rather rate rated rating ratings rationale read reads real really reason reasons
recommend recommendation record records remember rest result review reviewer reviews right said same say says score
second see seem seems seen sell sentence several shall she short should show shows side similar since single small so
some something somewhat song songs sound sounds speak speaks stand star stars start still strong strongly such suit
suits sum summarize summary sure take taken tell tells than thank that the their them then there therefore these they
thing things think thinks third this those though three through time times title to together told too total toward
track tracks true try turn two under understand unless unlike until up upon us use used user users usually value very
want wanted wants was way we weak weigh well were what whatever when where whether which while who whole whose why will
wish wishes with within without word words work worse worst would write writes wrong year yes yet you your
clause drill noun nouns pairs
album albums artist band music listening sing taste buy bought buyer shop zero four five six seven eight nine ten
accurately actual advice analysis analyze answer aspect aspects balance category compare content critic criticised
criticism delight delighted element elements enjoy enjoyed enjoys history hint infer mention mentioned negative output
personalized praise praised praises profile response step steps task think without
""".split()  # noqa: SIM905 - a list of six hundred words reads better as prose


YOUNGER = ("reczero", "recone")  # methods that came after the tokenizer was made


def words() -> list[str]:
    """Every word of the lexicon, the simulated reviews, the corpus's questions, the prompts and everyday English."""
    found: set[str] = set(ENGLISH)
    for module in (lexicon, review_text, simulator, worlds, lists, reading, wording, liking, matching):
        for text in _strings(module):
            found |= set(WORD.findall(text.lower()))
    for prompt in prompts(YOUNGER):
        found |= set(WORD.findall(re.sub(r"\{\w+\}", " ", prompt.lower())))
    return sorted(found)


def prompts(without: Sequence[str] = ()) -> list[str]:
    """The prompt files of the package: those of the paper, and those of each method but some."""
    package = Path(str(files("r4r")))
    paths = [*package.glob("prompts/*.txt"), *package.glob("methods/*/*.txt")]
    return [path.read_text(encoding="utf-8") for path in paths if path.parent.name not in without]


def _strings(module: ModuleType) -> Iterator[str]:
    for name, value in sorted(vars(module).items()):
        if name.isupper():
            yield from _inside(value)


def _inside(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        text = re.sub(r"\{\w+\}", " ", value)
        for plural in (False, True):
            yield lexicon.conjugate(text, plural)
    elif isinstance(value, dict):
        for key, held in value.items():
            yield from _inside(key)
            yield from _inside(held)
    elif isinstance(value, (tuple, list, set)):
        for held in value:
            yield from _inside(held)


def spellings(word: str) -> tuple[str, str, str, str]:
    """A word's four tokens: after a space or not, capitalized or not."""
    capital = word[0].upper() + word[1:]
    return (" " + word, " " + capital, word, capital)


def build(out: Path) -> None:
    """Write tokenizer.json, its settings and the chat template (no system turn) into the folder `out`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    punctuation = ["Ġ" + mark for mark in "\"#$%&'()*+-/<=>[{~"]  # Ġ: the byte-level form of a space
    tokens = [*SPECIAL, *alphabet, *punctuation]
    for word in words():
        tokens += [_bytes(form) for form in spellings(word) if len(form) > 1]
    tokens = list(dict.fromkeys(tokens))
    backend = Tokenizer(models.BPE({token: n for n, token in enumerate(tokens)}, [], ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECE), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=SPECIAL[0], bos_token=SPECIAL[1], eos_token=SPECIAL[3]
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [SPECIAL[2]]})
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(out)


def _bytes(text: str) -> str:
    """Text as the byte-level pre-tokenizer spells it; all that is asked here is ASCII or a letter of Latin-1."""
    from tokenizers import pre_tokenizers

    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return "".join(piece for piece, _ in pieces)


def families(vocabulary: dict[str, int]) -> tuple[list[int], list[int]]:
    """For each token its word and its spelling (0 to 3), or a word of its own and spelling 4.

    The four spellings of a word share a part of their embeddings while they are learnt.
    """
    word_of, form_of = list(range(len(vocabulary))), [4] * len(vocabulary)
    for word in words():
        ids = [vocabulary.get(_bytes(form)) for form in spellings(word)]
        known = [n for n in ids if n is not None]
        for form, n in enumerate(ids):
            if n is not None:
                word_of[n], form_of[n] = known[0], form
    return word_of, form_of
