"""A model of Llama-3-8B's shape with random weights: `python experiments/bench/random_llama.py FOLDER`.

For speed and memory no weights need be downloaded. The tokenizer and its chat format are SmolLM2's by default. Then,
on a GPU: `python experiments/bench/training.py --model path:FOLDER --quantization nf4 --checkpointing --history 10`,
and likewise generation.py, rating.py and headline.py.
"""

import argparse
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from workload import SMOLLM2

from r4r.lm.fetch import resolve

if __name__ == "__main__":
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
    tokenizer = AutoTokenizer.from_pretrained(resolve(arguments.tokenizer, sha256, None, arguments.cache))
    config = LlamaConfig(
        vocab_size=128_256,
        hidden_size=arguments.hidden,
        intermediate_size=arguments.hidden * 7 // 2,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.hidden // 128,
        num_key_value_heads=max(1, arguments.hidden // 512),
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM(config)
    model.save_pretrained(arguments.folder)
    tokenizer.save_pretrained(arguments.folder)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e9:.2f} billion weights in {arguments.folder}")
