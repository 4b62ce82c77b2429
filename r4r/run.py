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

    from r4r.config import Config
    from r4r.stages.stage import Job, Stage


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
        from r4r.help import help_text

        given = zip(sys.argv[1:], sys.argv[2:], strict=False)
        print(help_text([Path(folder) for option, folder in given if option in ("--config-dir", "-cd")]))
        return
    from r4r.errors import ConfigError
    from r4r.overrides import preflight
    from r4r.ranks import this_rank

    first = this_rank().rank == 0
    try:
        sys.argv[1:] = preflight(sys.argv[1:])
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

    from r4r.errors import ConfigError
    from r4r.files import conf_dir
    from r4r.terminal import refusal

    try:
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

    from r4r.checks import validate
    from r4r.errors import R4RError
    from r4r.launch import processes_to_start, start_processes
    from r4r.plugins import check_job
    from r4r.ranks import this_rank
    from r4r.records import group_choices
    from r4r.terminal import refusal

    hydra_config, here = HydraConfig.get(), this_rank()
    folder = Path(hydra_config.runtime.output_dir)
    try:
        check_job(cfg, hydra_config)
        config = validate(cfg)
        count = 1 if config.plan else processes_to_start(config.trainer, here)
        if count > 1:
            for made in (folder, folder.parent / "multirun.yaml", folder.parent):  # by Hydra; they make their own
                with suppress(OSError):
                    made.unlink() if made.suffix else made.rmdir()
            sys.exit(start_processes(count, config.trainer, sys.argv[1:]))
        choices = group_choices(hydra_config)
        record = run(config, folder, list(hydra_config.overrides.task), choices)
    except Exception as error:
        # shown here and not in main: of a sweep's failed jobs, main would see only the first
        told = str(error) if isinstance(error, R4RError) else refusal(error)
        if told:
            which = f"process {here.rank + 1} of {here.size}: " if here.rank else ""
            print(f"r4r: {which}{told}", file=sys.stderr)
        else:
            traceback.print_exc()
        if (folder / "result.json").exists():
            print(f"r4r: failed; record: {folder / 'result.json'}", file=sys.stderr)
        error.shown = True  # type: ignore[attr-defined]
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

    from r4r.checks import construct
    from r4r.findings import findings
    from r4r.loggers import case_tables, open_logger, score_metrics
    from r4r.records import Terminated, recording
    from r4r.result_picture import draw_result
    from r4r.stages.stage import Job
    from r4r.store.artifact import Store
    from r4r.summary import show
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

            follow(work, [method.stages(work), *_reference_stages(work).values()])
            return {}
    if config.plan:
        from r4r.stages.score_reasons import reason_score_stages

        final = method.stages(work)
        plan(work, {"method": final, **_reference_stages(work), **reason_score_stages(config, final)})
        with suppress(OSError):  # Hydra made it; a plan leaves nothing behind
            folder.rmdir()
        return {}
    main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, terminate) if main_thread else None
    try:
        with recording(config, folder, overrides, choices) as record, open_logger(config, folder, record) as log:
            make_folder(config.paths.artifacts)
            work.log = log
            if config.trainer.threads:
                import torch

                torch.set_num_threads(config.trainer.threads)
            final = method.stages(work)
            references = _reference_stages(work)
            if config.target != "result":
                stages = find_target(config.target, [final, *references.values()])
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
                    log(case_tables(work, [final, *references.values()]))
            if "engine" in vars(work):  # not where all texts and ratings were in the store
                record["engine"] = work.engine.about
    finally:
        work.close()
        if here.size > 1:
            from r4r.training.ranks import call

            call(None)
        if main_thread:
            signal.signal(signal.SIGTERM, before)
    if config.target == "result":
        show(record)
    for name, path in record.get("target", {}).items():
        if name == "split" and name in work.hits:  # one that is built prints it itself
            from r4r.data.table1 import table1_text

            report = json.loads((Path(path) / "table1.json").read_text(encoding="utf-8"))
            print(table1_text(report, config.dataset.name))  # equal data may have been built under another name
        print(f"{name}: {path}")
    print(folder / "result.json")
    return record


def _reference_stages(work: "Job") -> "dict[str, Stage]":
    """The final stages of the methods scored beside the job's own; none is its own reference."""
    from r4r.checks import construct

    nodes = work.config.references
    return {
        name: construct(node, f"references.{name}", work.config.plugins).stages(work)
        for name, node in nodes.items()
        if node["_target_"] != work.config.method["_target_"]
    }


def plan(work: "Job", finals: "dict[str, Stage]") -> None:
    """Print each stage once, inputs first: whether it is in the store, its key, and what a build would take."""
    from r4r.stages.estimate import counts, described, minutes

    if work.config.llm.engine == "vllm":
        from r4r.lm import engine

        print(f"engine {engine.described(work.config.llm)}")
    stages = list({(stage.name, stage.key): stage for final in finals.values() for stage in final.upstream()}.values())
    known = counts(work.config, stages, work.store)
    hits, unknown, whole = 0, [], 0.0
    code: dict[str, list[str]] = {}  # file that is not r4r's released own -> stages whose keys hold its digest
    for stage in stages:
        for file in stage.unreleased:
            code.setdefault(file, []).append(stage.name)
        damage = work.store.damage(stage.name, stage.key)
        if not damage and work.store.find(stage.name, stage.key):
            hits += 1
            print(f"hit    {stage.name:24} {stage.key}")
            continue
        words, seconds = described(stage, known, work.store)
        whole += seconds or 0.0
        unknown += [stage.name] if seconds is None else []
        print(f"build  {stage.name:24} {stage.key}  {words}".rstrip())
        if damage:
            print(f"       what lies there is damaged: {damage}; it would be set aside")
    changed = [file for file in code if file.startswith("r4r/")]
    if changed:
        shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        print(f"source {shown}: not as r4r released them; their content is part of the keys")
    for file, names in code.items():
        if file not in changed:
            print(f"source {file}: its content is part of the keys of {', '.join(names)}")
    if len(stages) > hits:
        rest = f"; no rate yet for {len(unknown)} of them: {', '.join(unknown)}" if unknown else ""
        print(
            f"{minutes(whole)} in all by this machine's earlier builds{rest}" if whole else "no earlier build to go by"
        )
    print(f"{hits} stages in the store, {len(stages) - hits} to build; nothing was done (plan=true)")


def find_target(target: str, finals: "list[Stage]") -> "list[Stage]":
    """The upstream stages that `target` names, in full or by a last component that only one name has.

    Raises:
        ConfigError: no stage, or several names, fit.
    """
    from r4r.errors import ConfigError
    from r4r.targets import close_names

    stages = {(stage.name, stage.key): stage for final in finals for stage in final.upstream()}
    names = {name for name, _ in stages}
    fitting = [target] if target in names else sorted(n for n in names if n.rpartition("/")[2] == target)
    if len(fitting) > 1:
        raise ConfigError([f"target={target}: could be {' or '.join(fitting)}; write it in full"])
    if not fitting:
        short = {name.rpartition("/")[2] for name in names}
        hint = close_names(target, names | short | {"result"})
        raise ConfigError([f"target={target}: this job has no such stage; {hint}"])
    return [stage for (name, _), stage in stages.items() if name == fitting[0]]


def score(work: "Job", final: "Stage", references: "dict[str, Stage]") -> dict[str, Any]:
    """Predictions of the method and its references, scored on the same rows.

    Returns:
        metrics (a row a label and decoding, the method's first), segments, comparisons of the method's first label with
        every other (first minus other), training_pairs (label -> how many, see there), cost, artifacts (stage -> key),
        excluded (cause -> row ids): what an analysis left out, and so is scored for no label; where the configuration
        has metrics of reasons, reasons (see `score_reasons`).
    """
    from r4r.data.history import HistoryIndex
    from r4r.errors import ConfigError
    from r4r.metrics.rating import DECODINGS, align, rating_error, segments
    from r4r.metrics.significance import paired_bootstrap
    from r4r.records import cost, training_pairs
    from r4r.rows import PREDICTIONS
    from r4r.stages.cases import history_rows
    from r4r.stages.score_reasons import score_reasons
    from r4r.stages.split import all_rows, targets

    predicted: dict[str, Any] = {}
    pairs: dict[str, int | None] = {}
    truth = targets(work)
    finals = [final, *references.values()]
    excluded = work.materialize(final).manifest.get("excluded", {})
    dropped = {row_id for row_ids in excluded.values() for row_id in row_ids}
    truth = truth[~truth["row_id"].isin(dropped)].reset_index(drop=True)
    for stage in finals:
        table = work.materialize(stage).table(PREDICTIONS)
        table = table[~table["row_id"].isin(dropped)]
        for label in table["label"].unique():
            if label in predicted:
                raise ConfigError([f"two of the methods in this job are both called '{label}' in the table"])
            predicted[label] = align(truth, table, label)
            pairs[label] = training_pairs(work, stage)
    ratings, scale = truth["rating"].to_numpy(), work.config.dataset.rating_scale
    known = HistoryIndex(history_rows(work.config.dataset, all_rows(work))).before(truth)
    headline, *others = predicted
    metrics, parts = [], []
    for label, table in predicted.items():
        values = {name: table[name].to_numpy() for name in DECODINGS}
        for name in DECODINGS:
            if name == "mean" or (values[name] != values["mean"]).any():
                metrics.append({"label": label, "decoding": name, **rating_error(ratings, values[name])})
        lengths = known.user_count, known.item_count
        parts += [{"label": label, **row} for row in segments(truth, values["mean"], *lengths, scale=scale)]
    first = predicted[headline]["mean"].to_numpy()
    comparisons = [
        {"label": label, "against": headline, **paired_bootstrap(ratings, first, predicted[label]["mean"].to_numpy())}
        for label in others
    ]
    scored = {}
    artifacts = {stage.name: stage.key for each in finals for stage in each.upstream()}
    if any(work.config.metrics.model_dump().values()):
        reasons = score_reasons(work, finals, truth)
        artifacts |= reasons.pop("artifacts")
        scored = {"reasons": reasons}
    return {
        "evaluated": work.config.dataset.evaluate.split,
        "excluded": excluded,
        "training_pairs": pairs,
        "metrics": metrics,
        "segments": parts,
        "comparisons": comparisons,
        "cost": cost(work, final),
        "artifacts": artifacts,
        **scored,
    }


if __name__ == "__main__":
    main()
