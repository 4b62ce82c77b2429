"""Would this job ask the simulated teacher about reviews that it cannot read? Told before anything is built."""

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from r4r.errors import R4RError

if TYPE_CHECKING:  # a misspelt word on the command line is told before any of this is imported
    from r4r.configuration.schema import Config
    from r4r.pipeline.stage import Stage

CAN_READ = "local, server, openai or openai_batch"
WORLD = "simulated"  # the source of data sets whose reviews the simulated teacher can read
CATEGORY = "music"  # what that world sells


def beyond_simulator(config: "Config") -> list[str]:
    """A sentence for the simulated teacher, and one for the simulated judge, that this job would ask about reviews
    other than the simulated world's.

    The stages that the job would need decide: with real reviews, all that asks no teacher works with the default one.
    """
    data = config.dataset
    if data.source == WORLD and CATEGORY in data.category.lower():
        return []
    judge = config.metrics.gptscore.judge if config.metrics.gptscore else None
    if "simulator" not in (config.teacher.kind, judge and judge.kind):
        return []
    what = f"dataset={data.name}" if data.source != WORLD else f"dataset.category={data.category}"
    asking: dict[str, list[str]] = {"teacher": [], "judge": []}
    with suppress(R4RError):  # what cannot even be planned is told by the job itself
        for stage in _needed(config):
            for role, names in asking.items():
                if _asks_simulator(stage.config, role) and stage.name not in names:
                    names.append(stage.name)
    others = {
        "teacher": f"take teacher={CAN_READ}, or a method or target that asks no teacher",
        "judge": f"take teacher@metrics.gptscore.judge={CAN_READ}, or metrics.gptscore=null",
    }
    return [
        f"{'teacher' if role == 'teacher' else 'metrics.gptscore.judge'}: the simulated {role} knows the words of the "
        f"simulated world's music reviews alone, and would be asked about {what} ({', '.join(names)}); {others[role]}"
        for role, names in asking.items()
        if names
    ]


def _asks_simulator(config: Any, role: str) -> bool:
    """Whether a stage's configuration names the simulator in a role, at any depth."""
    if not isinstance(config, dict):
        return False
    known = config.get(role)
    if isinstance(known, dict) and known.get("kind") == "simulator":
        return True
    return any(_asks_simulator(inner, role) for inner in config.values())


def _needed(config: "Config") -> "Iterator[Stage]":
    """The stages that this job would need, scores of reasons included where a method of the job learns to write."""
    from r4r.configuration.construct import construct
    from r4r.configuration.schema import LLMConfig, MetricsConfig
    from r4r.configuration.targets import locate
    from r4r.job_plan import find_target
    from r4r.stages.score_reasons import reason_score_stages
    from r4r.stages.stage import Job
    from r4r.store.artifact import Store

    # no key is read here, so a base model or a metric's model that must be asked for on a hub need not be
    planned = config.model_copy(
        update={
            "llm": LLMConfig(name="any", source="tiny:", **config.llm.model_dump(include={"engine", "vllm"})),
            "metrics": MetricsConfig(gptscore=config.metrics.gptscore),
        }
    )
    job = Job(planned, Store(config.paths.artifacts))
    nodes = {"method": config.method} | {f"references.{name}": node for name, node in config.references.items()}
    finals = {where: construct(node, where, config.plugins).stages(job) for where, node in nodes.items()}
    if config.target != "result":
        for stage in find_target(config.target, list(finals.values())):
            yield from stage.upstream()
        return
    for where, final in finals.items():
        yield from final.upstream()
        if "experts" in getattr(locate(str(nodes[where]["_target_"]), config.plugins), "uses", {"experts"}):
            yield from reason_score_stages(planned, final).values()
