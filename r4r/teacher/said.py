"""What a server says that is no answer: its own sentence, found in whatever it sent, and safe to show."""

import json
import re
from html import unescape
from typing import Any

MODERATION = re.compile(
    r"moderat|flagged|content[_ -]?(?:filter|policy|management)|safety|harass|violen|inappropriate|prohibited"
    r"|(?<!case.)sensitive|data_inspection|responsible ai",
    re.IGNORECASE,
)
EVENT = re.compile(r"^data:[ \t]*(.+)$", re.MULTILINE)


def visible(text: str, limit: int = 200) -> str:
    """One line of at most `limit` characters; what is not printable, escape sequences included, is spelt out."""
    line = re.sub(r"[ \t\r\n]+", " ", text[: 20 * limit]).strip()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)[:limit]


def read_json(content: bytes) -> Any:
    """
    Raises:
        ValueError: this is no JSON, or JSON so deep that no answer is.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("JSON nested too deep") from None


def reported(body: Any) -> tuple[str, str]:
    """(code, sentence) of an error that a JSON body reports, in the shapes that servers use; empty where none is."""
    if not isinstance(body, dict):
        return "", ""
    error = body.get("error") or body.get("detail") or (body.get("object") == "error" and body)
    if not error and "choices" not in body:
        error = body.get("message") or body.get("msg") or body.get("errors")
    if isinstance(error, list) and error:
        error = error[0]
    if not isinstance(error, dict):
        return "", str(error) if error else ""
    said = error.get("message") or error.get("msg") or error.get("detail") or ""
    more = error.get("metadata")
    if isinstance(more, dict):  # a router's: the words of the provider behind it, or why a prompt was flagged
        flagged = more.get("reasons") and f"flagged for {more['reasons']}"
        said = "; ".join(str(part) for part in (said, more.get("raw"), flagged) if part)
    return str(error.get("code") or error.get("type") or ""), str(said) or json.dumps(error)[:400]


def sentence(content: bytes) -> tuple[str, str]:
    """(code, sentence) of a reply that is no chat completion: JSON, a stream of events, HTML or plain text."""
    try:
        code, said = reported(read_json(content))
        if said:
            return code, said
    except ValueError:
        pass
    text = content[:20_000].decode("utf-8", "replace").strip()
    events = EVENT.findall(text)
    if events and text.startswith(("data:", "event:", ":")):
        for event in events:
            try:
                code, said = reported(read_json(event.encode()))
            except ValueError:
                continue
            if said:
                return code, said
        return "", f"a stream of events, though none was asked for, which begins {events[0][:80]}"
    if re.search(r"<(?:!doctype html|html|head|body)\b", text[:500], re.IGNORECASE):
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        bare = re.sub(r"<(script|style)\b.*?(?:</\1>|\Z)|<[^>]*>", " ", text, flags=re.IGNORECASE | re.DOTALL)
        return "", f"an HTML page, no answer: {unescape(title[1] if title else bare).strip()}"
    return "", text
