"""Every page's links lead somewhere, and every command for one job in it composes a valid configuration.

The presets' sweeps have tests of their own.
"""

import re
import shlex
from pathlib import Path

import pytest

from r4r.configuration.composing import make_loader
from r4r.configuration.preflight import preflight

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page for top in (ROOT, ROOT / "conf", ROOT / "r4r", ROOT / "experiments") for page in top.glob("**/README.md")
    if not {".git", "multirun_outputs", ".pytest_cache", "build"} & set(page.relative_to(ROOT).parts)
    and (top != ROOT or page.parent == ROOT)
)  # fmt: skip
OWN = ("--config-dir", "item_knn", "critic", "short.txt", "path:", "DIR", "--help")  # name files of the reader's


def commands() -> list[str]:
    """The lines `r4r ...` of all pages' shell blocks, without sweeps, comments and variables set before them."""
    found = set()
    for page in PAGES:
        for block in re.findall(r"^```(?:bash)?\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                line = re.sub(r"^(\w+=\S+ )+", "", line.split(" #")[0].strip())
                if line.startswith("r4r ") and not line.startswith("r4r -m") and not any(word in line for word in OWN):
                    found.add(line)
    return sorted(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), f"{page}: {link}"


def test_each_room_is_found_from_the_front_page() -> None:
    front = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in PAGES:
        if page.parent.parent in (ROOT, ROOT / "r4r"):
            assert f"]({page.relative_to(ROOT)})" in front, page
    assert len(front.splitlines()) <= 160


def test_the_commands_of_the_pages_compose() -> None:
    lines, loader = commands(), make_loader()
    assert len(lines) > 20
    faults = []
    for line in lines:
        try:
            preflight(shlex.split(line)[1:], loader=loader)
        except Exception as fault:  # each is told with its line
            faults.append(f"{line}: {fault}")
    assert faults == []
