"""Artifacts for programs that do not know r4r: an expert as a peft folder with a model card, predictions as CSV."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from r4r.errors import DataError, StoreError
from r4r.rows import PREDICTIONS, REVIEWS
from r4r.spreadsheet import write_row
from r4r.store.artifact import Artifact

CONFIG = "adapter_config.json"
TABLE_COLUMNS = ("row_id", "split", "user_id", "item_id", "title", "rating", "timestamp")

SNIPPET = """\
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer{imported}

HERE = "."  # this folder
BASE = {base}
REVISION = {revision}

tokenizer = AutoTokenizer.from_pretrained(BASE, revision=REVISION)
base = AutoModelForCausalLM.from_pretrained(BASE, revision=REVISION, dtype="auto"{options})
model = PeftModel.from_pretrained(base, HERE).eval()
{system}messages = [*system, {{"role": "user", "content": "..."}}]  # one of the prompts below, filled in
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
inputs = {{name: inputs[name].to(model.device) for name in ("input_ids", "attention_mask")}}
with torch.inference_mode():
    written = model.generate(**inputs, max_new_tokens=64, do_sample=False)
print(tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
"""


def hand_adapter(artifact: Artifact, folder: Path, base: str | None) -> Path:
    """Write a trained expert as a plain peft folder: adapter, `README.md` (model card, snippet that loads it).

    Args:
        folder: to be made.
        base: hub name or folder of the base model, in place of what the adapter says.
    Raises:
        StoreError: the artifact is no trained expert, the folder is there, or its base model is on no hub and `base`
            does not name it.
    """
    source = artifact.path / "adapter"
    if not (source / CONFIG).is_file():
        raise StoreError(f"{artifact.path}: is no trained expert; r4r-store list shows these as train/NAME/KEY")
    if folder.exists():
        raise StoreError(f"{folder}: is there already; name a folder to be made")
    if base is not None and not base.strip():
        raise StoreError("--base: is empty; it takes a model's name on a hub, or its folder")
    settings = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    told = str(settings["base_model_name_or_path"])
    named = base or told.removeprefix("path:")
    if base is None and told.startswith(("pypi:", "tiny:", "package:")):
        raise StoreError(
            f"{told}, the base model of this adapter, is on no hub, so only r4r could load it by that name; --base "
            "names its folder (r4r keeps those that it fetched or made below models/ in R4R_CACHE)"
        )
    revision = settings.get("revision") if base is None else None
    config = yaml.safe_load((artifact.path / "config.yaml").read_text(encoding="utf-8"))
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, partial)
    settings |= {"base_model_name_or_path": named, "revision": revision}
    (partial / CONFIG).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    card = _card(artifact.manifest, config, told, named, revision)
    (partial / "README.md").write_text(card, encoding="utf-8", errors="replace")
    partial.rename(folder)
    return folder


def snippet(llm: Mapping[str, Any], base: str, revision: str | None) -> str:
    """Python that loads the adapter in its own folder with peft and transformers alone.

    Args:
        llm: identity of the base model, as in the artifact's `config.yaml`.
    """
    quantized = llm.get("quantization") == "nf4"
    wanted = 'load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True'
    return SNIPPET.format(
        imported=", BitsAndBytesConfig" if quantized else "",
        base=repr(base),
        revision=repr(revision),
        options=f",\n    quantization_config=BitsAndBytesConfig({wanted})" if quantized else "",
        system=f'system = [{{"role": "system", "content": {llm["system"]!r}}}]\n'
        if llm.get("system")
        else "system = []\n",
    )


def _card(manifest: Mapping[str, Any], config: Mapping[str, Any], told: str, base: str, revision: str | None) -> str:
    """The model card, in the form that model hubs read."""
    expert, llm = config.get("expert") or {}, config.get("llm") or {}
    name = str(manifest["stage"]).removeprefix("train/")
    head: dict[str, Any] = {"library_name": "peft", "pipeline_tag": "text-generation", "tags": ["lora", "r4r", name]}
    if ":" not in told and not Path(base).is_dir():
        head = {"base_model": base, **head}
    facts = {
        "base model": f"{base}" + (f", commit {revision}" if revision else "") + ("" if told == base else f" ({told})"),
        "quantization of the base model in training": llm.get("quantization"),
        "LoRA": ", ".join(f"{key} {value}" for key, value in (expert.get("lora") or {}).items()),
        "objective": (expert.get("objective") or {}).get("_target_"),
        "learning rate, epochs, batch size": ", ".join(str(expert.get(k)) for k in ("lr", "epochs", "batch_size")),
        "examples, steps, tokens trained on": ", ".join(
            str(manifest.get(k)) for k in ("examples", "steps", "train_tokens")
        ),
        "first and last training loss": f"{manifest.get('first_loss')}, {manifest.get('last_loss')}",
        "stopped because": manifest.get("stopped"),
        "artifact": f"{manifest['stage']}/{manifest['key']}",
        "made from": ", ".join(f"{k} {v}" for k, v in (manifest.get("inputs") or {}).items()),
        "made with": ", ".join(f"{k} {v}" for k, v in (manifest.get("versions") or {}).items()),
    }
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {name}: a LoRA expert trained by r4r",
        "One of the experts of a rating prediction by deliberation (Reason4Rec, arXiv 2502.02061), as an adapter in "
        "peft's format. It knows the prompts below and little else. The licence of the base model holds for its use; "
        "what its training texts were made of decides what else does.",
        "\n".join(f"- {key}: {value}" for key, value in facts.items() if value not in (None, "")),
        "## Loading it\n\nWith peft and transformers alone:",
        fenced(snippet(llm, base, revision), "python"),
        "## Prompts\n\nThe user's turn of a chat; names in braces stand for what r4r fills in.",
        *(f"`{title}`\n\n{fenced(str(text))}" for title, text in (expert.get("prompts") or {}).items()),
    ]
    return "\n\n".join(parts) + "\n"


def fenced(text: str, language: str = "") -> str:
    """A text as a Markdown code block that nothing in it can end."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def write_predictions(predictions: Sequence[Artifact], split: Artifact, file: Path) -> int:
    """Write predictions as CSV, a line a row and label, beside the true rating; cells are no spreadsheet's formulas.

    Args:
        predictions: of rows of the one split.
        file: to be made.

    Returns:
        How many lines.
    Raises:
        StoreError: an artifact holds no predictions, or the file is there.
    """
    tables = []
    for artifact in predictions:
        try:
            tables.append(artifact.table(PREDICTIONS))
        except (OSError, ValueError, DataError) as error:
            raise StoreError(
                f"{artifact.path}: holds no predictions; r4r-store list shows these as predict/"
            ) from error
    rows = split.table(REVIEWS)[list(TABLE_COLUMNS)]
    made = rows.merge(pd.concat(tables), on="row_id", validate="one_to_many")
    try:
        with file.open("x", newline="", encoding="utf-8", errors="replace") as out:
            write_row(out, list(made.columns))
            for line in made.itertuples(index=False, name=None):
                write_row(out, line)
    except FileExistsError:
        raise StoreError(f"{file}: is there already; name a file to be made") from None
    return len(made)
