"""A small random Llama and a tokenizer that need no download: the fast tests' language model."""

from pathlib import Path

RECIPE_VERSION = 1
SPECIAL = ("<|pad|>", "<|bos|>", "<|start|>", "<|end|>")
CHAT = (
    "{{ bos_token }}{% for message in messages %}{{ '<|start|>' + message['role'] + '\n' + message['content'] + "
    "'<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)
WORDS = """
the user review history item rating reason summary positive negative aspects preference elements predicted
average past ratings personalized recommendation analysis task based on information please predict music title
would like melody lyrics rhythm vocals production guitar enjoy love dislike because of is with for and but not
that this customer keywords considering output format new features whether will provide your rationale one
concise paragraph
""".split()  # noqa: SIM905 - a list of ninety words reads better as prose


def build_tiny(out: Path) -> None:
    """Write a 2-layer Llama (hidden 32, seeded random weights) and a byte-level word tokenizer with single digits."""
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = sorted({form for word in WORDS for form in (word, word.capitalize())})
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = [*SPECIAL, *alphabet]
    merges: list[tuple[str, str]] = []
    known = set(vocabulary)
    for word in [*words, *("Ġ" + word for word in words)]:  # Ġ: the byte-level form of a space
        for end in range(2, len(word) + 1):
            if word[:end] not in known:
                known.add(word[:end])
                vocabulary.append(word[:end])
                merges.append((word[: end - 1], word[end - 1]))
    backend = Tokenizer(models.BPE({token: index for index, token in enumerate(vocabulary)}, merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d|[^\S ]| ?[^\s\d]+| +"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=SPECIAL[0], bos_token=SPECIAL[1], eos_token=SPECIAL[3]
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [SPECIAL[2]]})
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(out)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=1,
        eos_token_id=3,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(out)
