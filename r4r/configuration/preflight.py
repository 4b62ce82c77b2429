"""A command line and all its jobs, checked before Hydra starts."""

import sys
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf

from r4r.configuration.arguments import given, slips
from r4r.configuration.checks import Further, validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.models_named import register_models
from r4r.configuration.overrides import check_overrides, own_axes
from r4r.configuration.parser import hydra_parser
from r4r.configuration.pasted_keys import refused
from r4r.configuration.plugins import foreign_plugins, pin_sources, trusted_plugins
from r4r.configuration.targets import strange_to_hydra
from r4r.configuration.unread import ignored, unread_settings
from r4r.errors import ConfigError


def preflight(argv: list[str], further: Further | None = None, loader: ConfigLoaderImpl | None = None) -> list[str]:
    """Check the command line and every job that it would start.

    A sweep is checked one axis at a time: each value of an axis with the first values of the others.

    Args:
        further: what else is asked of each job, as in `validate`.
        loader: that of the command line's folders; None: a new one.
    Returns:
        The command line for Hydra.
    Raises:
        ConfigError: with every fault found.
    """
    argv = given(argv)
    faults = list(slips(argv))
    if faults:
        raise ConfigError(faults)
    args = hydra_parser().parse_intermixed_args(argv)
    if args.help or args.hydra_help or args.shell_completion or args.info:
        return argv
    for override in args.overrides:  # to the end: Hydra takes no options between them
        argv.remove(override)
    argv += args.overrides
    if args.cfg and args.multirun:
        raise ConfigError(["--cfg and -m: a sweep is many configurations; show one of them, without -m"])
    if pasted := refused(args.overrides):
        raise ConfigError(pasted)
    if args.config_dir and not Path(args.config_dir).is_dir():
        raise ConfigError([f"--config-dir {args.config_dir}: there is no such folder"])
    register_models(args.overrides)
    loader = loader or make_loader(args.config_dir)
    name = args.config_name or "config"
    multirun = bool(args.multirun)
    checked = check_overrides(args.overrides, loader, name, multirun)
    problems, valid = list(checked.problems), []
    if not args.cfg:
        problems += _unswept(args.overrides, loader, name, multirun)
        named = not problems  # names first: what is imported to check values takes seconds
        trusted = trusted_plugins(args.overrides, loader, name)
        unused: list[dict[str, str]] = []  # of each variant: key -> what is wrong with its override
        for variant in checked.variants:
            try:
                cfg = compose(loader, name, variant)
            except ConfigError as error:
                problems += error.problems
                continue
            unsafe = [*strange_to_hydra(cfg), *foreign_plugins(cfg, trusted)]
            problems += unsafe
            try:
                validate(cfg, named and not unsafe, further)
            except ConfigError as error:
                problems += error.problems
            if named and not unsafe:
                valid.append(cfg)
                unused.append({sentence.split("=")[0]: sentence for sentence in ignored(cfg, variant)})
        # in a sweep over methods, an override stands if any of the jobs uses it
        if unused:
            problems += sorted(text for key, text in unused[0].items() if all(key in job for job in unused))
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    pin_sources(valid)
    for note in dict.fromkeys(note for cfg in valid for note in notes(cfg, args.overrides)):
        print(f"r4r: {note}", file=sys.stderr)
    return [checked.spelt.get(argument, argument) for argument in argv]


def notes(cfg: DictConfig, overrides: Sequence[str]) -> list[str]:
    """What is worth a second look in a job that can run."""
    return [*_recipe_note(cfg, overrides), *_unread_note(cfg), *_world_note(cfg)]


def _unread_note(cfg: DictConfig) -> list[str]:
    """Which experts' settings a method of the job leaves unread, where a recipe or a preset gives them all the same."""
    places: dict[str, list[str]] = {}
    for key, owner in unread_settings(cfg).items():
        if OmegaConf.select(cfg, key) is not None:
            places.setdefault(owner, []).append(".".join(key.split(".")[:2]))
    return [
        f"{owner}: trains one adapter for several tasks; how {', '.join(sorted(set(names)))} are trained is not read"
        for owner, names in places.items()
    ]


def _world_note(cfg: DictConfig) -> list[str]:
    """A sentence where real reviews meet the carried model, which has read of invented records alone."""
    model, data = OmegaConf.select(cfg, "llm.name"), OmegaConf.select(cfg, "dataset.name")
    invented = OmegaConf.select(cfg, "dataset.source") == "simulated"
    carried = str(OmegaConf.select(cfg, "llm.source")).startswith("package:")
    if invented or not carried or ignored(cfg, [f"llm={model}"]):
        return []
    return [
        f"llm={model}: has read nothing but reviews of invented records; for dataset={data} take llm=smollm2_135m, "
        "or a model of your own"
    ]


def _recipe_note(cfg: DictConfig, overrides: Sequence[str]) -> list[str]:
    """A sentence where a large model is to be trained with the settings made for the bundled one."""
    recipe = OmegaConf.select(cfg, "hydra.runtime.choices.recipe")
    source = str(OmegaConf.select(cfg, "llm.source"))
    asked = any(text.lstrip("+").startswith("recipe=") for text in overrides)
    if recipe == "paper" or asked or not source.startswith(("hub:", "path:")):
        return []
    made_for = "which is made for a small bundled model (lr 1e-3 and above)"
    return [f"llm.source={source} with recipe={recipe}, {made_for}; the paper's is recipe=paper"]


def _unswept(overrides: Sequence[str], loader: ConfigLoaderImpl, name: str, multirun: bool) -> list[str]:
    """A sentence where a preset brings a sweep that this command would drop."""
    if multirun or "hydra.mode=MULTIRUN" in overrides:
        return []
    axes = [axis.partition("=")[0] for axis in own_axes(overrides, loader, name)]
    if not axes:
        return []
    preset = next(text for text in overrides if text.lstrip("+").startswith("experiment"))
    return [f"{preset}: is a sweep over {', '.join(axes)}; add -m, or give each of them a value"]
