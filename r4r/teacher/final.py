"""The answer in what a model wrote: without its thinking, and without the control tokens of its chat format."""

import re

from r4r.errors import AnswerBroken, AnswerCut, AnswerEmpty

# Thinking: what stands before the last closing mark is no answer, drafts of the answer included. Chat templates that
# open the mark in the prompt leave the closing one alone.
TAGS = r"(?:[a-z]+:)?(?:think|thinking|thought|thoughts|reasoning|reflection|scratch_?pad|analysis|inner_?monologue)"
LEFT, RIGHT = r"(?:<\|?|&lt;|[⟨＜◁])", r"(?:\|?>|&gt;|[⟩＞▷])"
OPENING = re.compile(
    rf"{LEFT}\s*{TAGS}(?:\s[^<>]*)?\s*{RIGHT}|\[think\]|<\|start_thinking\|>|<unused94>"
    r"|<\|channel\|>\s*(?:analysis|commentary)\b[^<]*(?:<\|message\|>)?|\A\s*here is my thought process:",
    re.IGNORECASE,
)
CLOSING = re.compile(
    rf"{LEFT}\s*/\s*{TAGS}\s*{RIGHT}|\[/think\]|<\|end_thinking\|>|<unused95>"
    r"|<\|channel\|>\s*final\b[^<]*(?:<\|message\|>)?|^\s*here is my response:",
    re.IGNORECASE | re.MULTILINE,
)
# the channels' names where a server dropped the control tokens around them
BARE_OPENING, BARE_CLOSING = re.compile(r"\A\s*analysis(?=[A-Z])"), re.compile(r"assistantfinal")
MARKED = re.compile(r".*<\s*(answer|final_?answer|response)\s*>(.*?)(?:<\s*/\s*\1\s*>|\Z)", re.IGNORECASE | re.DOTALL)
WRAPPED = re.compile(r"\A<\s*(final|output|result|reason|rationale|summary)\s*>(.*)<\s*/\s*\1\s*>\Z", MARKED.flags)
CONTROL = re.compile(  # as tokenizers of chat models spell their special tokens
    r"<\|[^<>|\s]{1,60}\|>|<｜[^<>｜\n]{1,60}｜>|<\|?/?(?:s|bos|eos|eot|eod|eom|pad|unk|mask)\|?>"
    r"|</?(?:start|end)_of_(?:turn|text|utterance|sentence|image|speech)>|<(?:unused|reserved_|extra_id_)\d+>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|TOOL_CALLS|AVAILABLE_TOOLS|TOOL_RESULTS)\]|\[(?:PAD|UNK|CLS|SEP|MASK|EOS|BOS)\]"
    r"|<</?SYS>>",
    re.IGNORECASE,
)
TURN = re.compile(  # of these, those that end a turn or begin another one
    r"end|stop|eo[stdm]\b|eot|/s>|return|finish|im_start|start_header|start_of_turn|/?INST|user|assistant|system|call",
    re.IGNORECASE,
)
ROLE = re.compile(r"\A\s*(?:assistant|model)\b[ \t]*(?:\n|(?=[<\[]))", re.IGNORECASE)
UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # control characters: no text, and unsafe in a terminal


def final_text(written: str) -> str:
    """The answer in a model's text, its thinking and control tokens taken away.

    Control tokens are taken off both ends. Within the text, one that ends the turn, or begins another, ends the answer.

    Raises:
        AnswerCut: the model was still thinking when it stopped.
        AnswerEmpty: nothing is left.
        AnswerBroken: control tokens stand in the middle of the text.
    """
    text = UNSEEN.sub("", written.encode("utf-8", "replace").decode())  # half a surrogate pair is no text
    text = _after_thinking(text)
    text = _bare(text)
    if found := MARKED.match(text) or WRAPPED.match(text):
        text = _bare(found[2])
    if not text:
        raise AnswerEmpty("came back empty")
    return text


def _after_thinking(text: str) -> str:
    ends = [match.end() for pattern in (CLOSING, BARE_CLOSING) for match in pattern.finditer(text)]
    text = text[max(ends) :] if ends else text
    if OPENING.search(text) or BARE_OPENING.search(text):
        raise AnswerCut("stopped while it was still thinking")
    return text


def _bare(text: str) -> str:
    """Without control tokens at the ends; cut where one within ends the turn."""
    text = text.strip()
    while found := CONTROL.match(text):
        text = ROLE.sub("", text[found.end() :], count=1).strip()
    found = CONTROL.search(text)
    if found is None:
        return text
    if TURN.search(found[0]) or not CONTROL.sub("", text[found.start() :]).strip():
        return text[: found.start()].strip()
    raise AnswerBroken(f"has {found[0]!r} in the middle of its text")
