"""vLLM as the engine: in this process, or behind a server."""

from collections.abc import Sequence
from pathlib import Path

from r4r.configuration.schema import LLMConfig
from r4r.lm.fetch import resolve
from r4r.lm.vllm_base import RANKS, VLLM


def open_vllm(spec: LLMConfig, ranks: Sequence[int], cache: Path) -> VLLM:
    """The engine that `llm.vllm` describes; vLLM starts, or is looked for, when it is first needed.

    Args:
        ranks: of the adapters to come.
    """
    folder = resolve(spec.source, spec.sha256, spec.revision, cache).absolute()
    rank = max(ranks, default=RANKS[0])
    if spec.vllm.base_url is None:
        from r4r.lm.vllm_inside import InProcess

        return InProcess(spec, folder, rank)
    from r4r.lm.vllm_server import Served

    return Served(spec, folder, rank)
