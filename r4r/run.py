"""One job: configuration -> method -> predictions -> scores -> one record. The command `r4r`."""

import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # all heavy imports wait until a job runs: `r4r --help` must not load torch
    from omegaconf import DictConfig

    from r4r.configuration.schema import Config
    from r4r.pipeline.stage import Stage
    from r4r.stages.stage import Job


def main() -> None:
    """The command line. Exit codes: 0 done, 1 failed, 2 wrong configuration, 130 or 143 interrupted."""
    os.environ["MPLBACKEND"] = "Agg"  # we draw into files alone; a notebook's backend would not even import here
    try:
        _command()
    except KeyboardInterrupt as interrupt:
        from r4r.ranks import this_rank

        if this_rank().rank == 0:
            print("r4r: interrupted; finished stages are kept", file=sys.stderr)
        sys.exit(143 if type(interrupt).__name__ == "Terminated" else 130)


def _command() -> None:
    from r4r.terminal import speak_any_terminal

    speak_any_terminal()
    if {"--help", "-h"} & set(sys.argv[1:]):
        from r4r.configuration.help import help_text

        given = zip(sys.argv[1:], sys.argv[2:], strict=False)
        print(help_text([Path(folder) for option, folder in given if option in ("--config-dir", "-cd")]))
        return
    from r4r.configuration.preflight import preflight
    from r4r.errors import ConfigError
    from r4r.ranks import this_rank
    from r4r.teacher_reach import beyond_simulator

    first = this_rank().rank == 0
    try:
        sys.argv[1:] = preflight(sys.argv[1:], beyond_simulator)
    except ConfigError as error:
        if first:
            print(f"r4r: {error}", file=sys.stderr)
        sys.exit(2)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach this function instead of Hydra's own report
    with ExitStack() as until_the_end:
        if not first:  # folders and records are the first process's alone
            folder = until_the_end.enter_context(TemporaryDirectory(prefix="r4r-"))
            sys.argv += [f"hydra.run.dir={folder}/run", f"hydra.sweep.dir={folder}/sweep"]
        _run_hydra(first)


def _run_hydra(first: bool) -> None:
    import hydra

    from r4r.configuration.parser import any_python
    from r4r.errors import ConfigError
    from r4r.files import conf_dir
    from r4r.terminal import refusal

    try:
        with any_python():
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(job)()
    except Exception as error:
        if not getattr(error, "shown", False):
            told = refusal(error, making=True)  # Hydra makes the job's folder
            if told is None:
                raise
            print(f"r4r: {told}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


def job(cfg: "DictConfig") -> float | None:
    """Hydra's task: run the composed job in its own folder.

    Returns:
        The headline error that `sweep_metric` names, for sweepers; None where nothing was scored.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from r4r.configuration.checks import validate
    from r4r.configuration.plugins import check_job
    from r4r.errors import R4RError
    from r4r.launch import processes_to_start, start_processes
    from r4r.ranks import this_rank
    from r4r.records import group_choices, named_folder
    from r4r.teacher_reach import beyond_simulator
    from r4r.terminal import refusal
    from r4r.unfelt import unfelt

    hydra_config, here = HydraConfig.get(), this_rank()
    folder, of_a_sweep = Path(hydra_config.runtime.output_dir), hydra_config.mode is RunMode.MULTIRUN
    try:
        check_job(cfg, hydra_config)
        config = validate(cfg, further=beyond_simulator)
        count = 1 if config.plan else processes_to_start(config.trainer, here)
        if count > 1:
            _leave_nothing(folder, of_a_sweep)  # they make their own
            sys.exit(start_processes(count, config.trainer, sys.argv[1:]))
        if not of_a_sweep and here.rank == 0:
            for sentence in unfelt(cfg, config, hydra_config):
                print(f"r4r: {sentence}", file=sys.stderr)
        choices = group_choices(hydra_config)
        if here.rank == 0 and not config.plan:
            folder = named_folder(folder, list(hydra_config.overrides.task))
        record = run(config, folder, list(hydra_config.overrides.task), choices)
        if config.plan:
            _leave_nothing(folder, of_a_sweep)
    except Exception as error:
        # shown here and not in main: of a sweep's failed jobs, main would see only the first
        told = str(error) if isinstance(error, R4RError) else refusal(error)
        if told:
            which = f"process {here.rank + 1} of {here.size}: " if here.rank else ""
            print(f"r4r: {which}{told}", file=sys.stderr)
        else:
            traceback.print_exc()
        file = folder / "result.json"
        if file.exists() and json.loads(file.read_text(encoding="utf-8"))["status"] != "ok":  # or it could not print
            print(f"r4r: failed; record: {file}", file=sys.stderr)
        error.shown = True  # type: ignore[attr-defined]
        if "torch" in sys.modules:  # a sweep keeps the error, and with it what its frames hold, to its end
            from r4r.lm.memory import forget, release

            forget(error)
            release()
        raise
    return record["metrics"][0][cfg.sweep_metric] if record.get("metrics") else None


def run(
    config: "Config", folder: Path, overrides: Sequence[str] = (), choices: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Do what the configuration says and leave `folder/result.json`, except for a plan, which leaves nothing.

    Returns:
        The record.
    Raises:
        R4RError: the job cannot be done as configured; the record says why.
    """
    import signal
    import threading

    from r4r.configuration.construct import construct
    from r4r.errors import R4RError
    from r4r.findings import findings
    from r4r.job_plan import announce, check_base_model
    from r4r.loggers import case_tables, open_logger, score_metrics
    from r4r.progress import watching
    from r4r.records import RESULT, Terminated, code_of, note, recording, sources
    from r4r.report.finale import comparison
    from r4r.result_picture import draw_result
    from r4r.scores import score
    from r4r.stages.stage import Job
    from r4r.store.artifact import Store
    from r4r.store.inventory import note_run
    from r4r.terminal import make_folder

    def terminate(number: int, frame: Any) -> None:
        raise Terminated

    from r4r.ranks import this_rank

    here = this_rank()
    method = construct(config.method, "method", config.plugins)
    work = Job(config, Store(config.paths.artifacts))
    if here.size > 1 and not config.plan:
        from r4r.training.ranks import join

        join(here)
        if here.rank:
            from r4r.stages.follow import follow

            final = method.stages(work)
            follow(work, [final, *_reference_stages(work, final).values()])
            return {}
    if config.plan:
        from r4r.job_plan import plan

        final = method.stages(work)
        plan(work, _wanted(work, final, _reference_stages(work, final)))
        return {}
    main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, terminate) if main_thread else None
    try:
        with (
            recording(config, folder, overrides, choices) as record,
            watching(config.verbose, folder),
            open_logger(config, folder, record) as log,
        ):
            make_folder(config.paths.artifacts)
            work.log = log
            record["artifacts"] = work.finished  # what a job that breaks off has come to
            work.noted = lambda: note(folder, record)
            note_run(config.paths.artifacts, folder / RESULT)
            if config.trainer.threads:
                import torch

                torch.set_num_threads(config.trainer.threads)
            final = method.stages(work)
            record["source"] = sources(config, final)
            references = _reference_stages(work, final)
            record["reference_source"] = {
                f"{stage.name}/{stage.key}": own for stage in references.values() if (own := code_of(stage))
            }
            stages = _wanted(work, final, references)
            check_base_model(work, stages)
            announce(work, stages)
            if config.target != "result":
                record["target"] = {stage.name: str(work.materialize(stage).path) for stage in stages}
                record["artifacts"] = {s.name: s.key for stage in stages for s in stage.upstream()}
            else:
                record |= score(work, final, references)
                record["findings"] = findings(work, final, record)
                draw_result(record, folder / "result.png")
                log(score_metrics(record, config.sweep_metric))
                if config.timing.rows:
                    from r4r.stages.timing import time_predictions

                    record["timing"] = time_predictions(work, final, folder)
                    for mode in record["timing"]["modes"]:
                        log({f"timing/{mode['mode']}/{name}": mode[name] for name in ("seconds", "tokens")})
                if config.logger.wandb:
                    log(case_tables(work, [final, *references.values()], record["predicted"]))
                    log(comparison(config, record, folder))
            if "engine" in vars(work):  # not where all texts and ratings were in the store
                record["engine"] = work.engine.about
    finally:
        work.close()
        if here.size > 1:
            from r4r.training.ranks import call

            call(None)
        if main_thread:
            signal.signal(signal.SIGTERM, before)
    try:
        _tell(work, record)
        print(folder / RESULT, flush=True)
    except OSError as error:
        told = f"the job is done, but what it found cannot be printed ({error.strerror})"
        raise R4RError(f"{told}; its record is {folder / RESULT}") from error
    return record


def _tell(work: "Job", record: dict[str, Any]) -> None:
    """Print what a job found, or where the artifacts of its target lie."""
    from r4r.summary import show

    if work.config.target == "result":
        show(record)
    for name, path in record.get("target", {}).items():
        if name == "split" and "split" in dict(work.hits):  # one that is built prints it itself
            from r4r.data.table1 import table1_text

            report = json.loads((Path(path) / "table1.json").read_text(encoding="utf-8"))
            print(table1_text(report, work.config.dataset.name))  # equal data may have been built under another name
        print(f"{name}: {path}")


def _leave_nothing(folder: Path, of_a_sweep: bool) -> None:
    """Remove what Hydra has made for a job that is none: its folder, and that of its sweep if no other job is there."""
    with suppress(OSError):
        folder.rmdir()
        if of_a_sweep and not [path for path in folder.parent.iterdir() if path.name != "multirun.yaml"]:
            (folder.parent / "multirun.yaml").unlink(missing_ok=True)
            folder.parent.rmdir()


def _wanted(work: "Job", final: "Stage", references: "Mapping[str, Stage]") -> "list[Stage]":
    """The stages whose artifacts the job is asked for.

    Raises:
        ConfigError: its target names none.
    """
    from r4r.job_plan import find_target
    from r4r.stages.score_reasons import reason_score_stages

    found = find_target(work.config.target, [final, *references.values()])
    scored = reason_score_stages(work.config, final).values() if work.config.target == "result" else ()
    return [*found, *scored]


def _reference_stages(work: "Job", final: "Stage") -> "dict[str, Stage]":
    """The final stages of the methods scored beside the job's own, each once.

    The reference of the method's name and class is the method itself, whatever its settings, and so is left out.
    """
    from r4r.configuration.construct import construct
    from r4r.progress import say

    found: dict[str, Stage] = {}
    own = work.config.method
    for name, node in work.config.references.items():
        if (name, node["_target_"]) == (own["name"], own["_target_"]):
            continue
        stage = construct(node, f"references.{name}", work.config.plugins).stages(work)
        if stage.key in {other.key for other in (final, *found.values())}:
            say(f"references.{name}: has the settings of another row, and is not shown a second time")
        else:
            found[name] = stage
    return found


if __name__ == "__main__":
    main()
