"""Code from configuration: classes stand where one belongs, are of its kind, and come from r4r or a listed plugin."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from r4r.configuration.constructors import constructor_schema, setting_names
from r4r.configuration.plugins import SOURCES
from r4r.configuration.preflight import preflight
from r4r.configuration.targets import locate
from r4r.errors import ConfigError
from r4r.lm.base import Lora

ROOT = Path(__file__).parent.parent
MARK = "open('imported', 'w').close()\n"  # what a module does that must not be imported
MINE = """
from r4r.methods.means import Means

class Mine(Means):
    def __init__(self, name: str = "mine", strength: float = 1.0):
        super().__init__(name, strength, strength)
"""
PLACES = [
    "dataset: {world: {_target_: evil.run}}",
    "method: {_target_: evil.run}",
    "method: {_target_: os.system, command: touch imported}",
    "experts: {reasoner: {lora: {_target_: evil.run}}}",
    "references: {x: {_target_: evil.run}}",
    "strange: {_target_: evil.run}",
    "hydra: {callbacks: {x: {_target_: evil.run}}}",
    "hydra: {launcher: {_target_: '${oc.decode:evil.run}'}}",
    "hydra: {job_logging: {formatters: {x: {(): evil.run}}}}",
    "hydra: {job_logging: {handlers: {x: {class: evil.Run}}}}",
    "hydra: {hydra_logging: {handlers: {x: {class: logging.StreamHandler, stream: 'ext://evil.run'}}}}",
    "plugins: [evil]\nmethod: {_target_: evil.run}",
    "plugins: [os]\nmethod: {_target_: os.system}",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a command is run: with a module that must not be imported, and a folder of presets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("R4R_OUTPUTS", str(tmp_path / "out"))
    monkeypatch.setenv(SOURCES, "{}")
    (tmp_path / "evil.py").write_text(MARK + "def run(*args, **kwargs): pass\nclass Run: pass\n")
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    return tmp_path


def refused(*argv: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        preflight(list(argv))
    return error.value.problems


@pytest.mark.parametrize("content", PLACES)
def test_code_in_a_file_of_somebody_elses_is_refused_before_it_is_imported(folder: Path, content: str) -> None:
    (folder / "conf" / "experiment" / "theirs.yaml").write_text(f"# @package _global_\n{content}\n")
    found = refused("--config-dir", "conf", "experiment=theirs", "plan=true")
    assert found
    assert not (folder / "imported").exists()
    assert "evil" not in sys.modules
    assert all("Traceback" not in text for text in found)


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("method._target_=os.system", "os.system: is not r4r's own"),
        ("method._target_=evil.run", "plugins=[evil]"),
        ("method._target_=r4r.files.fingerprint", "is not a method"),
        ("method._target_=r4r.experts.predictor.Predictor", "is not a method"),
        ("experts.reasoner._target_=r4r.methods.mf.MF", "is not an expert"),
        ("method._target_=r4r", "must be a dotted path"),
        ("+seed2._target_=r4r.methods.mf.MF", "no class is named here"),
        ("++experts.reasoner._partial_=true", "no such setting"),
        ("++experts.reasoner._args_=[1]", "no such setting"),
        ("++trainer.callbacks.x._target_=pytorch_lightning.callbacks.EarlyStoping", "has no EarlyStoping"),
        ("++trainer.callbacks.x={_target_: pytorch_lightning.callbacks.Timer, durtion: 1}", "durtion: there is no"),
        ("++trainer.profiler._target_=pytorch_lightning.callbacks.Timer", "is not a profiler"),
        ("++trainer.plugins=[{_target_: os.system}]", "is not r4r's own"),
    ],
)
def test_a_class_that_does_not_belong_is_refused(folder: Path, argument: str, told: str) -> None:
    assert any(told in text for text in refused(argument, "plan=true"))
    assert not (folder / "imported").exists()


def test_a_plugin_is_named_by_the_user_alone(folder: Path) -> None:
    (folder / "methods_of_mine.py").write_text(MINE)
    argv = ["method._target_=methods_of_mine.Mine", "~method.user_shrinkage", "~method.item_shrinkage"]
    argv += ["method=means", "method.strength=2"]
    assert "plugins=[methods_of_mine]" in refused(*argv)[0]
    assert preflight([*argv, "plugins=[methods_of_mine]"])
    (folder / "conf" / "mine.yaml").write_text("defaults: [config, _self_]\nplugins: [methods_of_mine]\n")
    assert preflight(["--config-dir", "conf", "--config-name", "mine", *argv])
    (folder / "conf" / "experiment" / "theirs.yaml").write_text("# @package _global_\nplugins: [methods_of_mine]\n")
    found = refused("--config-dir", "conf", *argv, "experiment=theirs")
    assert any("a file of a group may not list plugins" in text for text in found)


def test_a_plugin_that_cannot_be_imported_is_a_sentence(folder: Path) -> None:
    (folder / "broken_of_mine.py").write_text("1 / 0\n")
    found = refused("method._target_=broken_of_mine.X", "plugins=[broken_of_mine]")
    assert any("importing broken_of_mine fails (ZeroDivisionError: division by zero)" in text for text in found)


def test_a_sweep_runs_one_version_of_a_users_class(folder: Path) -> None:
    """As a job on another machine sees it: the file has changed since the sweep's first process looked."""
    (folder / "swept_of_mine.py").write_text(MINE)
    argv = ["method=means", "method._target_=swept_of_mine.Mine", "~method.user_shrinkage", "~method.item_shrinkage"]
    argv += ["plugins=[swept_of_mine]", "logger=none", f"paths.outputs={folder / 'out'}", "dataset.world.users=20"]
    preflight(["-m", *argv, "seed=1,2"])
    pinned = json.loads(os.environ[SOURCES])
    assert set(pinned["swept_of_mine.Mine"]) == {"swept_of_mine.py"}
    (folder / "swept_of_mine.py").write_text(MINE + "# changed\n")
    code = (
        "import sys; from types import SimpleNamespace as N; from r4r.configuration.plugins import check_job\n"
        "from r4r.configuration.composing import compose, make_loader\n"
        "argv = sys.argv[1:]; cfg = compose(make_loader(), 'config', argv)\n"
        "check_job(cfg, N(runtime=N(config_sources=[]), overrides=N(task=argv), job=N(config_name='config')))"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=False)
    assert "swept_of_mine.py has changed since this sweep was started" in done.stderr


def test_the_names_of_settings_are_read_without_importing() -> None:
    """As the constructors have them."""
    methods = [
        f"r4r.methods.{name}" for name in ("mf.MF", "daml.DAML", "fewshot.method.FewShot", "reason4rec.Reason4Rec")
    ]
    for path in [*methods, "r4r.experts.summarizer.Summarizer", "r4r.experts.predictor.Predictor"]:
        read = setting_names(path)
        fields = constructor_schema(locate(path)).model_fields
        assert read is not None
        assert {name for name in read if "." not in name} == set(fields)
    assert {f"lora.{name}" for name in Lora.model_fields} <= (setting_names("r4r.experts.reasoner.Reasoner") or set())
    assert setting_names("r4r.methods.mf.Gone") is None


def test_a_typo_is_told_without_a_heavy_import() -> None:
    code = (
        "import sys; sys.argv = ['r4r', 'experts.reasoner.lora.rr=3', 'seed=-1']\n"
        "from r4r.run import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code)\n"
        "print('HEAVY', sorted({'torch', 'pandas', 'wandb', 'pytorch_lightning', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "2\nHEAVY []\n"
    assert "did you mean r?" in done.stderr
    assert "seed=-1" in done.stderr
