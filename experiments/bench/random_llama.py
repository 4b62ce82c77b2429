"""A model of Llama-3-8B's shape with random weights: `python experiments/bench/random_llama.py FOLDER`.

For speed and memory no weights need be downloaded. The tokenizer and its chat format are SmolLM2's by default. Then,
on a GPU: `python experiments/bench/training.py --model path:FOLDER --quantization nf4 --checkpointing --history 10`,
and likewise generation.py, rating.py and headline.py. `python experiments/gpu/prove.py` makes its own.
"""

import argparse
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

VOCABULARY = 128_256
HEAD = 128  # width of an attention head
WRITERS = 4  # files written at once, each of one layer


def write_llama(
    folder: Path, tokenizer: Path, layers: int = 32, hidden: int = 4096, vocabulary: int = VOCABULARY, head: int = HEAD
) -> int:
    """Write the model, a file a layer, each made on the GPU where there is one.

    Args:
        tokenizer: folder of the model that has it.
        hidden: the other widths follow as in Llama-3-8B.
        head: width of an attention head.

    Returns:
        How many weights it has.
    """
    spelled = AutoTokenizer.from_pretrained(tokenizer)
    heads = hidden // head
    config = LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=max(vocabulary, len(spelled)),
        hidden_size=hidden,
        intermediate_size=hidden * 7 // 2,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 4),
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        bos_token_id=spelled.bos_token_id,
        eos_token_id=spelled.eos_token_id,
        tie_word_embeddings=False,
        dtype=torch.bfloat16,
    )
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    spelled.save_pretrained(partial)
    config.save_pretrained(partial)
    with torch.device("meta"):
        shapes = {name: tuple(weight.shape) for name, weight in LlamaForCausalLM(config).named_parameters()}
    files: dict[str, list[str]] = {}
    for name in shapes:
        part = name.split(".")[2] if name.startswith("model.layers.") else "rest"
        files.setdefault(f"model-{part}.safetensors", []).append(name)
    with ThreadPoolExecutor(WRITERS) as pool:
        for _ in pool.map(lambda file: save_file(*file, {"format": "pt"}), _filled(partial, files, shapes)):
            pass
    where = {name: file for file, names in files.items() for name in names}
    weights = sum(torch.Size(shape).numel() for shape in shapes.values())
    index = {"metadata": {"total_size": 2 * weights}, "weight_map": where}
    (partial / "model.safetensors.index.json").write_text(json.dumps(index))
    os.replace(partial, folder)
    return weights


def _filled(
    folder: Path, files: dict[str, list[str]], shapes: dict[str, tuple[int, ...]]
) -> Iterator[tuple[dict[str, Tensor], Path]]:
    """Each file's weights: matrices from N(0, 0.02), norms of one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    draws = torch.Generator(device).manual_seed(0)
    for file, names in files.items():
        made = {}
        for name in names:
            weight = torch.ones(shapes[name], dtype=torch.bfloat16, device=device)
            made[name] = (weight.normal_(0, 0.02, generator=draws) if weight.ndim > 1 else weight).cpu()
        yield made, folder / file


if __name__ == "__main__":
    from workload import SMOLLM2

    from r4r.lm.fetch import resolve

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=4096, help="the other widths follow as in Llama-3-8B")
    parser.add_argument(
        "--tokenizer", default=SMOLLM2["source"], help="the source of the model that has it, as llm.source"
    )
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/r4r").expanduser())
    arguments = parser.parse_args()
    sha256 = SMOLLM2["sha256"] if arguments.tokenizer == SMOLLM2["source"] else None
    folder = resolve(arguments.tokenizer, sha256, None, arguments.cache)
    weights = write_llama(arguments.folder, folder, arguments.layers, arguments.hidden)
    print(f"{weights / 1e9:.2f} billion weights in {arguments.folder}")
