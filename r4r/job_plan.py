"""What a job would do, before it does it: its stages, what they take, and whether its base model can be used at all."""

from collections.abc import Iterable, Sequence

from r4r.configuration.targets import close_names
from r4r.errors import ConfigError, R4RError
from r4r.pipeline.stage import Stage
from r4r.progress import expect, say
from r4r.stages.estimate import counts, described, minutes
from r4r.stages.past import took_elsewhere, yardstick
from r4r.stages.stage import Job


def plan(work: Job, finals: Sequence[Stage]) -> None:
    """Print each stage once, inputs first: whether it is in the store, its key, and what a build would take."""
    if work.config.llm.engine != "hf":
        from r4r.lm import engine

        name, why = work.engine_choice()
        print(f"engine {engine.described(work.config.llm) if name == 'vllm' else f'hf: {why}'}")
    stages = list({(stage.name, stage.key): stage for final in finals for stage in final.upstream()}.values())
    known, elsewhere = counts(work.config, stages, work.store), took_elsewhere(work.config, stages)
    hits, unknown, whole, here = 0, [], 0.0, True
    code: dict[str, list[str]] = {}  # file that is not r4r's released own -> stages whose keys hold its digest
    for stage in stages:
        for file in stage.unreleased:
            code.setdefault(file, []).append(stage.name)
        damage = work.store.damage(stage.name, stage.key)
        if not damage and work.store.find(stage.name, stage.key):
            hits += 1
            print(f"hit    {stage.name:24} {stage.key}")
            continue
        found = described(stage, known, work.store, elsewhere)
        whole += found.seconds or 0.0
        here = here and found.here
        unknown += [stage.name] if found.seconds is None else []
        print(f"build  {stage.name:24} {stage.key}  {found.words}".rstrip())
        if damage:
            print(f"       what lies there is damaged: {damage}; it would be set aside")
    changed = [file for file in code if file.startswith("r4r/")]
    if changed:
        shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        print(f"source {shown}: not as r4r released them; their content is part of the keys")
    for file, names in code.items():
        if file not in changed:
            print(f"source {file}: its content is part of the keys of {', '.join(names)}")
    for line in memory(work, stages):
        print(line)
    if len(stages) > hits:
        rest = f"; no rate yet for {len(unknown)} of them: {', '.join(unknown)}" if unknown else ""
        print(f"{minutes(whole)} in all {_by(here)}{rest}" if whole else "no earlier build to go by")
    print(f"{hits} stages in the store, {len(stages) - hits} to build; nothing was done (plan=true)")


def announce(work: Job, finals: Sequence[Stage]) -> None:
    """Say, before anything is done and any teacher is paid, what is to be built and how long that takes."""
    stages = list({(stage.name, stage.key): stage for final in finals for stage in final.upstream()}.values())
    known, elsewhere = counts(work.config, stages, work.store), took_elsewhere(work.config, stages)
    expected: dict[tuple[str, str], float | None] = {}
    not_here, asked = set(), []
    for stage in stages:
        which = stage.name, stage.key
        if work.store.find(*which):
            expected[which] = 0.0
            continue
        found = described(stage, known, work.store, elsewhere)
        expected[which] = found.seconds
        if not found.here:
            not_here.add(which)
        if work.config.teacher.is_api and "call" in found.words:
            asked.append(f"      {stage.name}: {found.words}")
    expect(expected, not_here)
    build = [seconds for seconds in expected.values() if seconds != 0.0]
    if not build:
        return
    unknown = sum(seconds is None for seconds in build)
    whole = sum(seconds or 0.0 for seconds in build)
    words = f"{minutes(whole)} {_by(not not_here)}" if unknown < len(build) else ""
    rest = f"no rate yet for {unknown} of them" if unknown else ""
    told = f"{len(build)} {'stage' if len(build) == 1 else 'stages'} to build, {len(stages) - len(build)} in the store"
    say(f"plan  {told}; {', '.join(filter(None, [words, rest]))}")
    for line in asked:
        say(line)


def _by(here: bool) -> str:
    return "by this machine's earlier builds" if here else f"by what it took on {yardstick()['machine']}"


def find_target(target: str, finals: Sequence[Stage]) -> list[Stage]:
    """The upstream stages that `target` names, in full or by a last component that only one name has, of the first of
    the methods that has any; `result`: the last stages themselves.

    Raises:
        ConfigError: no stage, or several names, fit.
    """
    if target == "result":
        return list(finals)
    names = {stage.name for final in finals for stage in final.upstream()}
    fitting = [target] if target in names else sorted(n for n in names if n.rpartition("/")[2] == target)
    if len(fitting) > 1:
        raise ConfigError([f"target={target}: could be {' or '.join(fitting)}; write it in full"])
    if not fitting:
        short = {name.rpartition("/")[2] for name in names}
        hint = close_names(target, names | short | {"result"})
        raise ConfigError([f"target={target}: this job has no such stage; {hint}"])
    found = ([stage for stage in final.upstream() if stage.name == fitting[0]] for final in finals)
    return next(stages for stages in found if stages)


def check_base_model(work: Job, stages: Iterable[Stage]) -> None:
    """Refuse a base model that could not be trained or read, while no teacher has been paid. Where all adapters are in
    the store, it was usable when they were made.

    Raises:
        ModelError: as `r4r.lm.architecture.check_model`.
    """
    if untrained(work, (before for stage in stages for before in stage.upstream())):
        from r4r.lm.architecture import check_model

        check_model(work.config.llm, work.config.paths.cache, work.config.dataset.rating_scale)


def untrained(work: Job, stages: Iterable[Stage]) -> bool:
    """Whether an adapter among the stages is not in the store."""
    return any(stage.trains_adapter and not work.store.find(stage.name, stage.key) for stage in stages)


def memory(work: Job, stages: Iterable[Stage]) -> list[str]:
    """Lines on which GPUs have room for the job's base model, where an adapter is to be trained."""
    if not untrained(work, stages):
        return []
    from r4r.lm.fetch import at_hand
    from r4r.lm.memory import estimate

    llm, cache = work.config.llm, work.config.paths.cache
    if not at_hand(llm.source, llm.sha256, cache):
        return [f"memory {llm.name} is not on this machine yet: what it takes is known once it is fetched"]
    try:
        return [f"memory {line}" for line in estimate(llm, cache)]
    except R4RError as error:
        return [f"memory no estimate: {error}"]
