"""r4r: deliberative recommendation (Reason4Rec) as a Hydra-configured experiment framework.

The public names, each imported when it is first used (r4r/serve/README.md shows them at work):

- `compose(*overrides)`: a job's configuration, checked.
- `run_job(composed)`: do it; gives its record.
- `open_record(path)`: the record of a run.
- `open_artifact(run, stage)`: what a stage of a run has made.
- `load(path)`: the trained pipeline of a run, to explain and rate with.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["compose", "load", "open_artifact", "open_record", "run_job"]

_ENTRANCE = (
    "r4r.serve.entrance"  # a name alone: every module imports this one, and what it imported would be in all keys
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'r4r' has no attribute '{name}'")
    return getattr(import_module(_ENTRANCE), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
