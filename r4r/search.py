"""Hyperparameter search by Optuna, such that a killed search goes on: what hydra-optuna-sweeper leaves to its user."""

import copy
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from r4r.configuration.checks import validate
from r4r.configuration.construct import construct
from r4r.errors import ConfigError
from r4r.stages.stage import Job
from r4r.store.artifact import Store
from r4r.store.key import key_of

NOT_SEARCHED = {"hydra", "paths", "logger", "trainer", "plan", "verbose"}  # what changes none of a trial's values


class Resume(Callback):
    """Before a search starts: names its study by all that decides its outcome, and counts what is still to be tried."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """
        Raises:
            SystemExit: in place of any error, which Hydra would turn into a warning.
        """
        try:
            self._name_study(config)
        except ConfigError as error:
            print(f"r4r: {error}", file=sys.stderr)
            sys.exit(2)
        except Exception:
            traceback.print_exc()
            sys.exit(1)

    def _name_study(self, config: DictConfig) -> None:
        sweeper = config.hydra.sweeper
        if sweeper.storage is None:
            return
        given = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        axes = {o.get_key_element(): str(o.input_line).partition("=")[2] for o in given if o.is_sweep_override()}
        job = OmegaConf.masked_copy(config, [str(key) for key in config if key not in NOT_SEARCHED])
        identity: dict[str, Any] = {"job": OmegaConf.to_container(job), "space": dict(sweeper.params or {}) | axes}
        identity["result"] = _key(config, identity["space"])
        name = f"{sweeper.study_name}-{key_of('search', 1, identity, {})}"
        for folder in (config.paths.outputs, config.hydra.sweep.dir):  # of the study, and of the best trial
            Path(folder).mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # the sweeper says the same
        study = optuna.create_study(study_name=name, storage=sweeper.storage, load_if_exists=True)
        done = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
        with read_write(config), open_dict(config):
            sweeper.study_name = name
            sweeper.n_trials = max(0, sweeper.n_trials - done)


def _key(cfg: DictConfig, space: Mapping[str, Any]) -> str:
    """The key of what the job predicts where each axis has its first value: its files, its code and how it is trained
    are in it."""
    cfg = copy.deepcopy(cfg)
    with read_write(cfg), open_dict(cfg):
        for key, values in space.items():
            axis = OverridesParser.create().parse_override(f"{key}={values}")
            group = "/" in key or "@" in key or key in cfg.hydra.runtime.choices
            if not group:
                OmegaConf.update(cfg, key.lstrip("+"), _first(axis), force_add=True)
    config = validate(cfg)
    work = Job(config, Store(config.paths.artifacts))
    return str(construct(config.method, "method", config.plugins).stages(work).key)


def _first(axis: Override) -> Any:
    """The first value of a sweep's axis, or the start of its interval."""
    value: Any = axis.value()
    if axis.is_interval_sweep():
        return int(value.start) if value.start == int(value.start) else value.start
    if axis.is_sweep_override():
        value = next(axis.sweep_iterator())
    return Override._convert_value(value)


class TPE(optuna.samplers.TPESampler):
    """Tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011) that goes on where it was killed.

    Its draws depend on nothing but the seed, the trial's place and the finished trials before it. So the trial that a
    killed search was at is suggested again, and takes up its artifacts.
    """

    def __init__(self, seed: int, **settings: Any):
        super().__init__(seed=seed, **settings)
        self.seed = seed
        self._lost: int | None = None  # trials that an earlier run began and never ended

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if self._lost is None:
            trials = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            self._lost = sum(other.number < trial.number for other in trials)
        draw = key_of("draw", 1, {"seed": self.seed, "place": trial.number - self._lost, "parameter": param_name}, {})
        for generator in (self._rng, self._random_sampler._rng):
            generator.seed(int(draw[:8], 16))
        return super().sample_independent(study, trial, param_name, param_distribution)
