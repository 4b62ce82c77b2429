"""Grids of text into Markdown and LaTeX (booktabs), and pictures into bytes."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

UNREADABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # no page shows them, a terminal obeys some
DAGGER, DOUBLE_DAGGER = "†", "‡"
LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    DAGGER: r"$^{\dagger}$",
    DOUBLE_DAGGER: r"$^{\ddagger}$",
}


@dataclass(frozen=True)
class Text:
    """A cell: plain text, and whether it stands out: the best of a column bold, the second underlined."""

    text: str
    bold: bool = False
    underlined: bool = False


@dataclass
class Grid:
    """A table: the first column reads, the others are numbers."""

    caption: str
    headers: Sequence[str]
    lines: list[list[Text]]


@dataclass
class Document:
    """A report on one of the paper's tables or figures.

    Attributes:
        name: of its files.
        command: what makes the records.
        problems: what failed or is missing, a sentence each.
        notes: what the reader should know, a sentence each.
        rows: the same numbers for programs: a dictionary a line of the CSV file.
    """

    name: str
    title: str
    command: str
    grids: list[Grid] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: list[dict[str, object]] = field(default_factory=list)

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        return markdown(self)


def as_png(figure: Any) -> bytes:
    """A picture (matplotlib's Figure) as a PNG file: the same bytes for the same picture."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=150, metadata={"Software": None})
    return out.getvalue()


def escape_markdown(text: str) -> str:
    """Plain text that a Markdown reader shows as it is, on one line."""
    text = (
        UNREADABLE.sub("\ufffd", re.sub(r"\s+", " ", text).strip())
        .replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
    )
    text = re.sub(r"([\\`*{}\[\]#|~$])", r"\\\1", text)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)  # inside a word it is no markup


def escape_latex(text: str) -> str:
    """Plain text that LaTeX sets as it is, on one line; a character that no page can show becomes a question mark."""
    text = re.sub(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff]", "?", text)
    made = "".join(LATEX.get(letter, letter) for letter in re.sub(r"\s+", " ", text).strip())
    # behind the end of a line, or an \item, these would begin an argument of it
    return "{}" + made if made.startswith(("[", "*")) else made


def markdown(document: Document) -> str:
    """A page: a table a data set, then what is missing, then the notes."""
    parts = [f"# {escape_markdown(document.title)}", f"Command: `{document.command}`"]
    for grid in document.grids:
        lines = [
            _line([escape_markdown(header) for header in grid.headers]),
            "| --- |" + " ---: |" * (len(grid.headers) - 1),
            *(_line([_markdown(cell) for cell in line]) for line in grid.lines),
        ]
        parts += [f"## {escape_markdown(grid.caption)}", "\n".join(lines)]
    for head, sentences in (("Missing", document.problems), ("Notes", document.notes)):
        if sentences:
            parts += [f"## {head}", "\n".join(f"- {escape_markdown(sentence)}" for sentence in sentences)]
    return "\n\n".join(parts) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown(cell: Text) -> str:
    text = escape_markdown(cell.text)
    return f"**{text}**" if cell.bold else f"<ins>{text}</ins>" if cell.underlined else text


def latex(document: Document) -> str:
    r"""A table a data set, for a document that loads booktabs; problems and notes stand below as \footnotesize."""
    parts = [f"% {' '.join(document.command.split())}", "% needs \\usepackage{booktabs}"]
    for number, grid in enumerate(document.grids):
        parts += [
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{escape_latex(document.title)}, {escape_latex(grid.caption)}}}",
            rf"\label{{tab:{document.name}{f'-{number + 1}' if number else ''}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(grid.headers) - 1)}}}",
            r"\toprule",
            " & ".join(escape_latex(header) for header in grid.headers) + r" \\",
            r"\midrule",
            *(" & ".join(_latex(cell) for cell in line) + r" \\" for line in grid.lines),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    sentences = [*document.problems, *document.notes]
    if sentences:
        parts += [r"\begin{footnotesize}\begin{itemize}", *(rf"\item {escape_latex(s)}" for s in sentences)]
        parts.append(r"\end{itemize}\end{footnotesize}")
    return "\n".join(parts) + "\n"


def _latex(cell: Text) -> str:
    text = escape_latex(cell.text)
    return rf"\textbf{{{text}}}" if cell.bold else rf"\underline{{{text}}}" if cell.underlined else text
