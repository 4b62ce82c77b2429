"""What the last job of a sweep logs of the whole of it: the comparison as a table, and its picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from r4r.configuration.schema import Config
from r4r.errors import DataError
from r4r.progress import say
from r4r.report.records import RESULT, Run, gather


def comparison(config: Config, record: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """`comparison/table` (DataFrame: the lines of the report's CSV file) and `comparison/picture` (PNG).

    Args:
        record: the job's as it will be, scored; on disk it is still unfinished.
        folder: the job's.

    Returns:
        Nothing for a job of no sweep, or while other jobs of its sweep are still to come.
    """
    from r4r.report.sweep import MULTIRUN, not_started, sweep

    if not (folder.parent / MULTIRUN).is_file():
        return {}
    runs, _ = gather([folder.parent])
    own = Run(folder / RESULT, {**record, "status": "ok"})
    runs = [own if run.path.resolve() == own.path.resolve() else run for run in runs]
    if any(run.record["status"] == "interrupted" for run in runs) or not_started(folder.parent, runs):
        return {}
    try:
        from r4r.report.sweep_figure import draw_sweep, pick_axes
        from r4r.report.sweep_table import sweep_table
        from r4r.report.text import as_png

        table = _of_paper(config, record, runs)
        if table:
            return table
        made = sweep(runs)
        x, _ = pick_axes(made, None, None)
        lines = sweep_table(made, f"r4r-report sweep {folder.parent}").rows
        return _logged(lines, as_png(draw_sweep(made, x=x)))
    except DataError as error:  # the job itself is scored
        say(f"  the sweep's comparison is not logged: {error}")
        return {}


def _of_paper(config: Config, record: Mapping[str, Any], runs: list[Run]) -> dict[str, Any]:
    """The paper's table or figure that the sweep's preset makes; nothing where it makes none."""
    from r4r.report.blocks import blocks
    from r4r.report.documents import document
    from r4r.report.figure import draw
    from r4r.report.settings import Ask
    from r4r.report.tables import TABLES
    from r4r.report.text import as_png

    presets = record.get("choices", {}).get("experiment") or config.experiment
    name = presets[0] if isinstance(presets, list) else presets
    if name not in TABLES:
        return {}
    found, missing = blocks(TABLES[name], runs, Ask(experiment=config.experiment))
    if not found:
        return {}
    return _logged(document(TABLES[name], found, missing).rows, as_png(draw(TABLES[name], found)))


def _logged(lines: list[dict[str, object]], picture: bytes) -> dict[str, Any]:
    table = pd.DataFrame(lines).astype(object).where(lambda cells: cells.notna(), "")
    return {"comparison/table": table.astype(str), "comparison/picture": picture}
