"""The chat format: what anyone says stays text, and a template is used as its makers mean it, the same on every day."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from r4r.errors import ModelError
from r4r.lm.chat import Chat
from r4r.lm.tiny import CHAT, build_tiny

LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'] | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MARKS = ["<|end|>", "<|start|>", "<|bos|>", "<|pad|>", "<think>", "</think>", "<s>", "</s>", "<unk>", "[INST]", "\n"]
MARKS += [
    "<|im_end|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<0x0A>",
    "user",
    "assistant",
    "\ue000",
    "\ue001",
    "|",
    "<",
    ">",
]
HOSTILE = st.lists(st.one_of(st.sampled_from(MARKS), st.text(max_size=8)), max_size=8).map("".join)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tiny")
    build_tiny(out)
    return out


def sentence_pieces(legacy: bool) -> Any:
    """Llama 2's kind of tokenizer: spaces as U+2581, `<s>` and `</s>` in the vocabulary, bytes for unknown characters.

    Args:
        legacy: a space is put before every piece of text between control tokens, as the first release did.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581"]
    pieces += [chr(code) for code in range(33, 127)] + ["\u2581T", "\u2581Th", "\u2581The"]
    merges = [("\u2581", "T"), ("\u2581T", "h"), ("\u2581Th", "e")]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if legacy:
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="first", split=False)
    undo = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(undo)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["[X]"],
    )
    tokenizer.chat_template = LLAMA2
    return tokenizer


def thinking(folder: Path) -> Any:
    """The tiny tokenizer with Qwen3's way to think, its marks no special tokens."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<think>", "</think>"])
    off = "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    tokenizer.chat_template = CHAT.replace("assistant\n' }}{% endif %}", "assistant\n' }}" + off + "{% endif %}")
    return tokenizer


KINDS = ["tiny", "llama 2", "llama 2 legacy", "thinking"]


@pytest.fixture(scope="module")
def chats(folder: Path) -> dict[str, Chat]:
    made = [AutoTokenizer.from_pretrained(folder), sentence_pieces(False), sentence_pieces(True), thinking(folder)]
    return {name: Chat(tokenizer, None) for name, tokenizer in zip(KINDS, made, strict=True)}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(text=HOSTILE)
def test_nothing_that_is_said_becomes_a_control_token(chats: dict[str, Chat], kind: str, text: str) -> None:
    chat = chats[kind]
    marks = set(chat.tokenizer.all_special_ids) - {chat.tokenizer.unk_token_id}
    marks |= set(chat.tokenizer.convert_tokens_to_ids(["<think>", "</think>"])) if kind == "thinking" else set()
    template = [token for token in chat.prompt_ids("x") if token in marks]
    assert [token for token in chat.prompt_ids(text) if token in marks] == template
    assert template.count(chat.tokenizer.bos_token_id) == 1
    said = chat.reply_ids(text, end=False)
    assert not marks & set(said)
    assert chat.reply_ids(text) == [*said, chat.end_ids[0]]
    # the whole text is there: read back, it is what was said (but for the space that SentencePiece puts first)
    if "\ufffd" not in text:
        assert chat.text(said) == chat.tokenizer.decode(said).strip()
        assert chat.tokenizer.decode(said).lstrip(" ") == text.lstrip(" ")
    clipped = chat.clip(text, 5)
    assert text.startswith(clipped)
    assert len(chat.reply_ids(clipped, end=False)) <= 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["The melody", " The  vocals, 5 songs\n\nand \u266b", "", "x"])
def test_other_texts_are_tokenized_as_by_transformers(chats: dict[str, Chat], kind: str, text: str) -> None:
    chat = chats[kind]
    whole = chat.tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    assert chat.prompt_ids(text) == chat.tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert chat.reply_ids(text, end=False) == chat.tokenizer(text, add_special_tokens=False)["input_ids"]


def test_half_a_surrogate_pair_is_no_text(chats: dict[str, Chat]) -> None:
    assert chats["tiny"].reply_ids("a\ud83d") == chats["tiny"].reply_ids("a?")
    assert chats["tiny"].clip("abc\ud83d", 2) == "ab"


def changed(folder: Path, template: str) -> Any:
    tokenizer = deepcopy(AutoTokenizer.from_pretrained(folder))
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("kind", ["llama 2", "llama 2 legacy"])
def test_a_turn_that_ends_with_a_space_ends_with_its_control_token(chats: dict[str, Chat], kind: str) -> None:
    chat = chats[kind]
    assert chat.end_ids[0] == chat.tokenizer.eos_token_id
    said = "Positive Aspects: melody, 5 songs"
    assert chat.text(chat.reply_ids(said)) == said


@pytest.mark.parametrize("tail", [" ", "\n", " \n", "\n\n"])
def test_white_space_before_the_end_of_a_turn_is_no_end(folder: Path, tail: str) -> None:
    chat = Chat(changed(folder, CHAT.replace("'<|end|>\n'", f"{tail!r} + '<|end|>\n'")), None)
    assert chat.tokenizer.convert_ids_to_tokens(chat.end_ids[0]) == "<|end|>"
    assert chat.text(chat.reply_ids("melody and\n\nlyrics of it")) == "melody and\n\nlyrics of it"


def test_a_turn_that_ends_with_words_ends_with_the_models_end_of_text(folder: Path) -> None:
    chat = Chat(
        changed(folder, "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"), None
    )
    assert chat.end_ids == (chat.tokenizer.eos_token_id,)


@pytest.mark.parametrize("format", ["%d %b %Y", "%A, %-d %B %y", "%Y-%m-%d %H:%M:%S"])
def test_a_template_with_todays_date_gives_the_same_prompt_every_day(folder: Path, format: str) -> None:
    dated = "{{ bos_token + 'Today is ' + strftime_now('" + format + "') + '\n' }}" + CHAT
    text = Chat(changed(folder, dated), None).tokenizer.decode(Chat(changed(folder, dated), None).prompt_ids("music"))
    assert "%" not in text
    assert any(said in text for said in ("26 Jul 2024", "Friday, 26 July 24", "2024-07-26 00:00:00"))


def test_thinking_is_switched_off_where_a_template_knows_it(chats: dict[str, Chat]) -> None:
    text = chats["thinking"].tokenizer.decode(chats["thinking"].prompt_ids("music"))
    assert text.endswith("<|start|>assistant\n<think>\n\n</think>\n\n")


WITHOUT_SYSTEM = {
    "refused": "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}",
    "dropped": "{% set messages = messages | selectattr('role', 'ne', 'system') | list %}",
}


@pytest.mark.parametrize("way", list(WITHOUT_SYSTEM))
@pytest.mark.parametrize(("system", "opening"), [("be brief", "be brief\n\n"), ("", ""), (None, "")])
def test_without_a_system_role_the_users_turn_begins_with_it(
    folder: Path, way: str, system: str | None, opening: str
) -> None:
    chat = Chat(changed(folder, WITHOUT_SYSTEM[way] + CHAT), system)
    text = chat.tokenizer.decode(chat.prompt_ids("music"))
    assert text == f"<|bos|><|start|>user\n{opening}music<|end|>\n<|start|>assistant\n"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('no roles') }}", "cannot be used: no roles"),
        ("{% for m in messages %}", "cannot be used"),
        ("{{ bos_token }}{{ eos_token }}", "does not write a user's message once"),
    ],
    ids=["refuses", "broken", "without the message"],
)
def test_a_template_that_cannot_be_used_is_refused(folder: Path, template: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        Chat(changed(folder, template), None)
