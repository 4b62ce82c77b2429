"""The identity of a piece of work: a hash of everything that changes its output."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def key_of(
    stage: str,
    version: int,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    code: Mapping[str, str] | None = None,
) -> str:
    """A 16-digit hex key.

    Args:
        stage: the stage's name.
        version: bumped by hand when the stage's code changes its output.
        config: every setting, prompt text and model identity that affects the output. Paths, loggers, workers,
            retries and devices stay out of it.
        inputs: the keys of the artifacts that it reads.
        code: digests of the code that its version does not tell of.
    """
    identity = {"stage": stage, "version": version, "config": config, "inputs": inputs}
    identity |= {"code": code} if code else {}
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
