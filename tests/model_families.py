"""Small random models with the architecture of public ones, made on the spot, on the tiny model's tokenizer."""

from pathlib import Path
from typing import Any

LOUD = 40.0  # real models' logits spread over tens; those of a random one over hundredths
COMMON: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "bos_token_id": 1,
    "eos_token_id": 3,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
WINDOW = 48  # tokens: shorter than the prompts
RECURRENT = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8}
HYBRID = {**RECURRENT, "linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"], "head_dim": 8}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "decoder_sparse_step": 1}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {  # name -> model_type, settings of its own
    "llama2": ("llama", {"num_key_value_heads": 4}),
    "llama3": ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}}),
    "mistral": ("mistral", {"sliding_window": WINDOW}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 8, "tie_word_embeddings": True}),
    "gemma": ("gemma", {"head_dim": 8}),
    "gemma2": ("gemma2", {"head_dim": 8, "sliding_window": WINDOW, "final_logit_softcapping": 30.0}),
    "gemma3": ("gemma3_text", {"head_dim": 8, "sliding_window": WINDOW, "sliding_window_pattern": 2}),
    "phi3": ("phi3", {}),
    "olmo2": ("olmo2", {}),
    "granite": ("granite", {"logits_scaling": 8.0, "residual_multiplier": 0.5, "embedding_multiplier": 2.0}),
    "cohere": ("cohere", {"logit_scale": 0.0625}),
    "smollm2": ("llama", {"tie_word_embeddings": True}),
    "smollm3": ("smollm3", {}),
    "gpt2": ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 4096}),
    "gpt_neox": ("gpt_neox", {}),
    "gpt_neo": (
        "gpt_neo",
        {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": WINDOW},
    ),
    "lfm2": ("lfm2", {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False}),
    "falcon_h1": (
        "falcon_h1",
        {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "lm_head_multiplier": 0.5},
    ),
    "qwen3_5": ("qwen3_5_text", HYBRID),
    "qwen3_next": ("qwen3_next", {**HYBRID, **EXPERTS, "shared_expert_intermediate_size": 32}),
    "mixtral": ("mixtral", {"num_local_experts": 4}),
    "mamba": ("mamba", {"state_size": 8}),
}


def build_family(name: str, out: Path) -> Path:
    """Write the model and a tokenizer into the folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from r4r.lm.tiny import build_tiny

    out.mkdir(parents=True, exist_ok=True)
    build_tiny(out)
    kind, settings = FAMILIES[name]
    vocabulary = len(AutoTokenizer.from_pretrained(out))
    common = {} if kind == "gpt2" else COMMON
    config = AutoConfig.for_model(kind, vocab_size=vocabulary, **(common | settings))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        causal = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            causal.get_output_embeddings().weight.mul_(LOUD)
    for old in out.glob("*.safetensors"):
        old.unlink()
    causal.generation_config.eos_token_id = 3
    causal.save_pretrained(out)
    return out
