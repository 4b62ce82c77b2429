"""What `r4r-store` hands to programs that do not know r4r: an adapter that peft loads, predictions as CSV."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from r4r.lm.base import Lora
from r4r.rows import PREDICTIONS, REVIEWS
from r4r.store.artifact import Store, write_table
from r4r.store.cli import main
from r4r.store.handing import fenced, snippet

SPLIT, TRAIN, PREDICT = "a" * 16, "b" * 16, "c" * 16
PROMPT = "Rate {title}.\n```\nno end of a block"


def call(outputs: Path, *argv: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["--outputs", str(outputs), *argv])
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, load_tiny: Callable[..., Any], model_cache: Path) -> Any:
    """A store with an adapter that changes what the tiny model writes; what r4r itself writes with it."""
    outputs = tmp_path_factory.mktemp("out")
    store = Store(outputs / "artifacts")
    lm = load_tiny()
    for number, weight in enumerate(lm.new_adapter("reasoner", Lora(r=2, alpha=4), False, seed=0)):
        torch.nn.init.normal_(weight.data, std=0.3, generator=torch.Generator().manual_seed(number))
    lm.save_adapter("reasoner", store.workspace("train/reasoner", TRAIN) / "adapter")
    llm = {"source": "tiny:", "quantization": "none", "system": None}
    config = {"expert": {"prompts": {"reasoner": PROMPT}, "lora": {"r": 2, "alpha": 4}}, "llm": llm}
    store.complete("train/reasoner", TRAIN, config, {"inputs": {}, "examples": 7, "steps": 2})
    ids = torch.tensor([lm.chat.prompt_ids("...")])
    texts = {}
    for name in (None, "reasoner"):
        with lm.using(name), torch.inference_mode():
            mask = torch.ones_like(ids)
            written = lm.causal.generate(input_ids=ids, attention_mask=mask, max_new_tokens=64, do_sample=False)
        texts[name] = lm.chat.tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
    [base] = (path for path in (model_cache / "models").iterdir() if path.is_dir())
    return outputs, base, texts


def test_the_cards_snippet_writes_what_r4r_writes_without_r4r(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs, base, texts = trained
    folder = tmp_path / "expert"
    assert call(outputs, "adapter", f"train/reasoner/{TRAIN}", str(folder), "--base", str(base)) == 0
    assert {path.name for path in folder.iterdir()} == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    card = (folder / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(card.split("---")[1])
    assert head["library_name"] == "peft"
    assert PROMPT in card
    [code] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert "r4r" not in code
    monkeypatch.chdir(folder)
    capsys.readouterr()
    exec(compile(code, "snippet", "exec"), {})
    assert capsys.readouterr().out.strip() == texts["reasoner"].strip() != texts[None].strip()


def test_a_base_model_on_no_hub_must_be_named_and_nothing_is_overwritten(
    trained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs, base, _ = trained
    assert call(outputs, "adapter", TRAIN, str(tmp_path / "x")) == 1
    assert call(outputs, "adapter", TRAIN, str(tmp_path), "--base", str(base)) == 1
    told = capsys.readouterr().err
    assert "tiny:, the base model of this adapter, is on no hub" in told
    assert "is there already" in told
    assert list(tmp_path.iterdir()) == []


def test_the_snippet_of_a_quantized_model_of_a_hub_names_its_commit_and_system_message() -> None:
    code = snippet({"quantization": "nf4", "system": "Be 'brief'."}, "org/name", "f" * 40)
    compile(code, "snippet", "exec")
    for part in ("BASE = 'org/name'", f"REVISION = '{'f' * 40}'", "load_in_4bit=True", "Be 'brief'."):
        assert part in code


@pytest.mark.parametrize("text", ["plain", "```", "a\n````\nb", ""])
def test_no_text_ends_its_block(text: str) -> None:
    fence, *inner, last = fenced(text).split("\n")
    assert fence == last
    assert fence not in inner


def test_predictions_of_a_run_or_an_artifact_are_a_csv_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path / "artifacts")
    rows = {"row_id": [0, 1], "user_id": ["u", "v"], "item_id": ["i", "i"], "title": ['=HYPERLINK("x")', 'A, "b"']}
    rows |= {"rating": [4.0, 2.5], "review": ["r", "s"], "timestamp": [1, 2], "split": ["test", "test"]}
    write_table(store.workspace("split", SPLIT) / "data.parquet", pd.DataFrame(rows), REVIEWS)
    store.complete("split", SPLIT, {}, {"inputs": {}})
    for label, key in (("MF", PREDICT), ("Means", "d" * 16)):
        told = {"row_id": [1, 0], "label": label, "mean": [2.0, 3.5], "median": [2.0, 3.0], "mode": [2.0, 4.0]}
        stage = f"predict/{label.lower()}"
        write_table(store.workspace(stage, key) / "data.parquet", pd.DataFrame(told), PREDICTIONS)
        store.complete(stage, key, {}, {"inputs": {"split": SPLIT}})
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    artifacts = {"split": SPLIT, "predict/mf": PREDICT, "predict/means": "d" * 16}
    (run / "result.json").write_text(json.dumps({"artifacts": artifacts}))
    assert call(tmp_path, "predictions", f"predict/mf/{PREDICT}", str(tmp_path / "mf.csv")) == 0
    assert call(tmp_path, "predictions", "runs/one", str(tmp_path / "all.csv")) == 0
    with (tmp_path / "mf.csv").open(newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert (first["title"], first["mean"], first["rating"]) == ('\'=HYPERLINK("x")', "3.5", "4.0")
    assert (second["title"], second["mode"], second["user_id"]) == ('A, "b"', "2.0", "v")
    assert len((tmp_path / "all.csv").read_text(encoding="utf-8").splitlines()) == 5
    capsys.readouterr()
    assert call(tmp_path, "predictions", "runs/one", str(tmp_path / "all.csv")) == 1
    assert call(tmp_path, "predictions", f"split/{SPLIT}", str(tmp_path / "no.csv")) == 1
    assert call(tmp_path, "predictions", "runs/two", str(tmp_path / "no.csv")) == 1
    told = capsys.readouterr().err
    assert "is there already" in told
    assert "holds no predictions" in told
    assert "there is no such artifact" in told
    assert not (tmp_path / "no.csv").exists()
