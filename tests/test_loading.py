"""A model's files lack weights, or are none: a sentence, and never a model whose weights are partly drawn at random."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, BertTokenizerFast

from r4r.errors import ModelError
from r4r.lm.tiny import build_tiny
from r4r.metrics.similarity import SentenceEncoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build_tiny(tmp_path)
    return tmp_path


def change(folder: Path, how: Any) -> None:
    """Write the weights anew, each (name, tensor) as the function gives it back, or not at all."""
    file = folder / "model.safetensors"
    made = dict(found for name, tensor in load_file(file).items() if (found := how(name, tensor)))
    save_file(made, file, metadata={"format": "pt"})


def refused(load_tiny: Any, folder: Path) -> str:
    with pytest.raises(ModelError) as error:
        load_tiny(source=f"path:{folder}")
    return str(error.value)


def test_a_whole_model_loads(load_tiny: Any, folder: Path) -> None:
    assert load_tiny(source=f"path:{folder}").causal


def test_a_missing_weight_is_named(load_tiny: Any, folder: Path) -> None:
    change(folder, lambda name, tensor: None if "layers.0.mlp.down_proj" in name else (name, tensor))
    told = refused(load_tiny, folder)
    assert (
        "is not whole: read as LlamaForCausalLM, its files lack 1 of its weights (model.layers.0.mlp.down_proj" in told
    )


def test_weights_under_other_names_are_missing(load_tiny: Any, folder: Path) -> None:
    change(folder, lambda name, tensor: (f"wrapped.{name}", tensor))
    told = refused(load_tiny, folder)
    assert "its files lack" in told
    assert "they hold others, such as wrapped." in told


def test_a_weight_of_another_shape_is_named(load_tiny: Any, folder: Path) -> None:
    change(folder, lambda name, tensor: (name, tensor[:-1].contiguous() if "norm.weight" in name else tensor))
    assert "have in another shape" in refused(load_tiny, folder)


def test_weights_of_another_architecture_are_missing(load_tiny: Any, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["BertForMaskedLM"], "model_type": "bert"}
    (folder / "config.json").write_text(json.dumps(config))
    assert "read as BertLMHeadModel, its files lack" in refused(load_tiny, folder)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
            "model.safetensors is Git's pointer to a large",
        ),
        (b"", "model.safetensors is empty"),
        (None, "is not a loadable language model: SafetensorError"),
    ],
)
def test_a_broken_file_is_a_sentence(load_tiny: Any, folder: Path, content: bytes | None, told: str) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:500] if content is None else content)
    assert told in refused(load_tiny, folder)


def test_a_broken_gguf_file_is_a_sentence(load_tiny: Any, tmp_path: Path, model_cache: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF and no more")
    with pytest.raises(ModelError, match=r"x\.gguf cannot be read as a GGUF file"):
        load_tiny(source=f"path:{tmp_path / 'x.gguf'}")
    assert not list(model_cache.rglob("*.partial"))


def test_a_sentence_encoder_needs_all_but_its_pooler(tmp_path: Path) -> None:
    config = BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\n")
    BertTokenizerFast(vocab=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    encoder = SentenceEncoder.load(tmp_path, torch.device("cpu"))
    assert encoder.embed(["a b"]).shape == (1, 8)
    change(tmp_path, lambda name, tensor: None if "attention.self.query" in name else (name, tensor))
    with pytest.raises(ModelError, match="its files lack 2 of its weights"):
        SentenceEncoder.load(tmp_path, torch.device("cpu"))
