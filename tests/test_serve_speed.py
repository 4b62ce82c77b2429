"""An edit is rated as fast as people type: over HTTP, on the model that r4r carries."""

from pathlib import Path

import pytest
from serve_speed import measured, shown
from served_job import do

import r4r

pytest.importorskip("uvicorn", reason="the server is an extra: pip install 'r4r[serve]'")
AT_ONCE = 0.3  # seconds


@pytest.mark.slow
def test_an_edit_on_the_carried_model_is_rated_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a machine that does much else the pipeline alone takes longer than that; then the server may add a third."""
    pipeline = r4r.load(do(tmp_path / "outputs", tmp_path / "models", "llm=world_3m"))
    over, alone = measured(pipeline, tmp_path / "interactions.jsonl")
    with capsys.disabled():
        print(f"\n{shown(over, alone)}")
    assert over < max(AT_ONCE, 4 / 3 * alone)
