"""How a stage is made real: hit the store, or build once and keep; and what a job's stages share."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r4r.configuration.schema import Config
from r4r.errors import DataError
from r4r.pipeline.facts import facts_fault, settled
from r4r.pipeline.stage import Stage
from r4r.progress import begin_stage, end_stage, found_stage, say
from r4r.provenance import machine
from r4r.store.artifact import Artifact, Store

if TYPE_CHECKING:
    from r4r.lm.chat import Chat
    from r4r.lm.engine import Engine


@dataclass
class Work:
    """What a build is given: the job, its inputs by name, and a folder that survives a kill."""

    job: "Job"
    inputs: dict[str, Artifact]
    folder: Path

    def of(self, stage: Stage) -> Artifact:
        """The artifact of a stage that is an input of the one being built (or of an input: it is in the store)."""
        return self.job.materialize(stage)


@dataclass
class Job:
    """One run: its configuration, the store, and the models that stages share, loaded when first needed."""

    config: Config
    store: Store
    log: Callable[[dict[str, float]], None] = lambda metrics: None  # metrics, prefixed by stage
    built: list[tuple[str, str]] = field(default_factory=list)  # name and key of stages that this job built, in order
    hits: list[tuple[str, str]] = field(default_factory=list)  # of those found in the store
    finished: dict[str, str] = field(default_factory=dict)  # key of each stage in the store, by name, as they get there
    noted: Callable[[], None] = lambda: None  # called when `finished` has grown
    _ready: dict[tuple[str, str], Artifact] = field(default_factory=dict)

    @cached_property
    def lm(self) -> Any:
        """The base model with its adapters (r4r.lm.base.LanguageModel)."""
        from r4r.lm.base import LanguageModel

        return LanguageModel.load(self.config.llm, self.config.trainer, self.config.paths.cache)

    @cached_property
    def chat(self) -> "Chat":
        """The base model's tokenizer and chat format, for which no weights are loaded."""
        if "engine" in vars(self):
            return self.engine.chat
        from r4r.lm.chat import load_chat

        return load_chat(self.config.llm, self.config.paths.cache)

    @cached_property
    def engine(self) -> "Engine":
        """Who writes and rates with the base model and its adapters."""
        from r4r.lm.engine import HF

        llm, experts = self.config.llm, self.config.experts.values()
        name, why = self.engine_choice()
        if llm.engine == "auto":
            say(f"llm.engine={name}: {why}")
        if name == "vllm":
            from r4r.lm.vllm import open_vllm

            return open_vllm(llm, [node["lora"]["r"] for node in experts], self.config.paths.cache)
        return HF(self.lm)

    def engine_choice(self) -> tuple[str, str]:
        """Which engine it is, hf or vllm, and why (`r4r.lm.engine.chosen`)."""
        from r4r.lm.engine import chosen

        heads = any(node.get("train_lm_head") for node in self.config.experts.values())
        return chosen(self.config.llm, self.config.trainer.accelerator, heads)

    def close(self) -> None:
        """Give back what models hold, of the GPU too: another job of this process may be next."""
        if "engine" in vars(self):
            vars(self).pop("engine").close()
        if {"lm", "teacher"} & set(vars(self)):
            from r4r.lm.memory import release

            for name in ("lm", "teacher"):
                vars(self).pop(name, None)
            release()

    @cached_property
    def teacher(self) -> Any:
        """The teacher of the configuration (r4r.teacher.base.Teacher)."""
        from r4r.stages.teachers import make_teacher

        return make_teacher(self.config)

    def materialize(self, stage: Stage) -> Artifact:
        """The stage's artifact, built now if it is not in the store.

        Raises:
            DataError: its `build` returned no facts, or facts of a form that nothing reads.
        """
        name = (stage.name, stage.key)
        if name not in self._ready:
            self._ready[name] = self._hit(stage) or self._make(stage)
            self.finished[stage.name] = stage.key
            self.noted()
        return self._ready[name]

    def _hit(self, stage: Stage) -> Artifact | None:
        if self.store.damage(stage.name, stage.key, whole=True):
            return None
        found = self.store.find(stage.name, stage.key)
        if found:
            with suppress(OSError):  # somebody else's store, say
                os.utime(found.path)  # no record names it yet: what is in use is younger than what `gc` takes
            self.hits.append((stage.name, stage.key))
            found_stage(stage.name, stage.key)
        return found

    def _make(self, stage: Stage) -> Artifact:
        inputs = {name: self.materialize(before) for name, before in stage.inputs.items()}
        with self.store.locked(stage.name, stage.key, lambda: say(f"wait  {stage.name}: another job is building it")):
            found = self._hit(stage)  # whoever held the lock may have built it
            if found:
                return found
            damage = self.store.damage(stage.name, stage.key, whole=True)
            if damage:
                aside = self.store.set_aside(stage.name, stage.key)
                say(f"damaged: {stage.name} {stage.key} ({damage}); set aside as {aside}, and built anew")
            begin_stage(stage.name, stage.key)
            started = time.monotonic()
            folder = self.store.workspace(stage.name, stage.key)
            facts = settled(stage.build(Work(self, inputs, folder)))
            manifest: dict[str, Any] = {
                "stage": stage.name,
                "key": stage.key,
                "version": stage.version,
                "inputs": {name: before.key for name, before in stage.inputs.items()},
                "source": stage.unreleased,
                "wall_s": round(time.monotonic() - started, 2),
            }
            fault = facts_fault(facts, manifest)
            if fault:
                named = f"{type(stage).__module__}.{type(stage).__qualname__}.build"
                raise DataError(f"{named}, for the stage {stage.name}: {fault}")
            manifest |= {**facts, **machine()}
            done = self.store.complete(stage.name, stage.key, stage.config, manifest)
            self.built.append((stage.name, stage.key))
            end_stage(stage.name, stage.key, manifest["wall_s"])
            return done
