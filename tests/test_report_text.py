"""Any text in a cell: it stays inside of it, in Markdown, LaTeX and on a command line."""

import re

import pytest
from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st

from r4r.report.text import Document, Grid, Text, escape_latex, escape_markdown, latex, markdown


@settings(max_examples=100)
@given_any(st.text(min_size=1))
def test_any_text_stays_inside_its_cell(text: str) -> None:
    document = Document("t", text, "r4r", [Grid(text, ["", text], [[Text(text), Text(text, bold=True)]])], [text])
    table = [line for line in markdown(document).split("\n") if line.startswith("|")]
    assert len(table) == 3
    for line in (table[0], table[2]):
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 3
    body = latex(document).split(r"\midrule" + "\n")[1].split("\n" + r"\bottomrule")[0]
    assert "\n" not in body
    assert len(re.findall(r"(?<!\\)&", body)) == 1
    bare = re.sub(r"\\[&%$#_{}\\]|\$(\\pm|-|\^\{\\dagger\})\$", "", escape_latex(text))
    assert not re.search(r"[&%$#_~^]", bare)
    assert bare.count("{") == bare.count("}")


@pytest.mark.parametrize("text", ["[label]", "*star", "=1", "a\x07b", "x\\\\y", "50% & more"])
def test_a_label_is_no_argument_and_no_command_of_latex(text: str) -> None:
    document = Document(
        "t", "title", "r4r", [Grid("c", ["", "n"], [[Text("first"), Text("1")], [Text(text), Text("2")]])]
    )
    body = latex(document).split(r"\midrule" + "\n")[1].split("\n" + r"\bottomrule")[0]
    assert len(body.split("\n")) == 2
    assert not re.search(r"\\\\\s*[\[*]", body)
    assert "\x07" not in body


def test_escaped_characters() -> None:
    assert escape_markdown("a|b_c*d`e <f> & [g] _h_") == r"a\|b_c\*d\`e &lt;f&gt; &amp; \[g\] \_h\_"
    assert escape_latex(r"50% of $5_{a} & \b") == r"50\% of \$5\_\{a\} \& \textbackslash{}b"
