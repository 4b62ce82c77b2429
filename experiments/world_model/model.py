"""The small Llama while it learns: how it starts, its embedding in parts, and its optimizer."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
import vocabulary

SHAPE = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 5, "num_attention_heads": 6}


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal by Newton-Schulz steps (Jordan et al. 2024), in float32.

    torch.optim.Muon iterates in bfloat16, which CPUs without it emulate at a tenth of the speed.
    """

    def __init__(self, params: list[torch.nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            shapes: dict[torch.Size, list[torch.nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                shapes[p.shape].append(p)
            for same in shapes.values():
                moved = []
                for p in same:
                    m = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    m.lerp_(p.grad, 1 - group["momentum"])
                    moved.append(p.grad.lerp(m, group["momentum"]))
                for p, update in zip(same, orthogonal(torch.stack(moved)), strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(update, alpha=-group["lr"] * 0.2 * max(p.shape) ** 0.5)  # as large as Adam's update


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest orthogonal matrices, roughly: five quintic Newton-Schulz steps. [n, rows, columns] -> the same."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a, alpha=1)
    return x.mT if tall else x


@torch.no_grad()
def wire(layers: Any) -> None:
    """Start with an induction circuit (Olsson et al. 2022), which else takes a million tokens to appear.

    Two heads of layer 0 look one and two tokens back and note what they saw. Of layer 1, two heads look for places
    whose first note is the token at hand, and two for places whose second note is its own first one: what came after
    the comma that followed this word before. Both copy what stands there. The other heads of later layers look for
    tokens like the one at hand. All other output projections are zero at first; what comes of it is up to the training.
    """
    width, size = layers[0].self_attn.o_proj.weight.shape[0], layers[0].self_attn.head_dim
    slow = [n for n in range(size) if n % (size // 2) >= size // 4]  # rotated little, so alike at any distance

    def rows(count: int) -> torch.Tensor:
        return torch.linalg.qr(torch.randn(width, count))[0].T

    def head(weight: torch.Tensor, n: int) -> torch.Tensor:
        return weight[n * size : (n + 1) * size]

    for depth, layer in enumerate(layers):
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        for n in range(width // size if depth else 0):
            same = torch.zeros(size, width)
            same[slow] = rows(len(slow)) * 1.2
            head(layer.self_attn.q_proj.weight, n).add_(same)
            head(layer.self_attn.k_proj.weight, n).add_(same)
    first, second = layers[0].self_attn, layers[1].self_attn
    turn = 10_000.0 ** (-torch.arange(size // 2) / (size // 2))
    key = (turn > 0.1).float() * 3.0
    seen = rows(size)
    notes = []
    for n in (
        0,
        1,
    ):  # one token back, two tokens back: the query is the key turned by that, so the rotations agree there
        head(first.q_proj.weight, n).zero_()
        head(first.k_proj.weight, n).zero_()
        head(first.k_proj.weight, n)[: size // 2, 0] = key
        head(first.q_proj.weight, n)[: size // 2, 0] = key * torch.cos(turn * (n + 1))
        head(first.q_proj.weight, n)[size // 2 :, 0] = -key * torch.sin(turn * (n + 1))
        notes.append(rows(size))
        head(first.v_proj.weight, n).copy_(seen)
        first.o_proj.weight[:, n * size : (n + 1) * size] = 0.5 * notes[n].T
    looked_for = [(seen, notes[0]), (seen, notes[0]), (notes[0], notes[1]), (notes[0], notes[1])]
    for n, (here, there) in enumerate(looked_for):
        part = slice(None, len(slow)) if n % 2 else slice(-len(slow), None)
        head(second.q_proj.weight, n).zero_()
        head(second.k_proj.weight, n).zero_()
        head(second.q_proj.weight, n)[slow] = 2.2 * here[part]
        head(second.k_proj.weight, n)[slow] = 2.2 * there[part]
        copied = rows(size)
        head(second.v_proj.weight, n).copy_(copied)
        second.o_proj.weight[:, n * size : (n + 1) * size] = 1.4 * copied.T


class Model(torch.nn.Module):
    """A Llama whose tied embedding is a sum while it learns: of the token, of its word, of its spelling."""

    def __init__(self, tokenizer: Any):
        from transformers import LlamaConfig, LlamaForCausalLM

        super().__init__()
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            **SHAPE,
            num_key_value_heads=SHAPE["num_attention_heads"],
            max_position_embeddings=4096,
            bos_token_id=1,
            eos_token_id=3,
            pad_token_id=0,
            tie_word_embeddings=True,
        )
        self.llama = LlamaForCausalLM(config)
        wire(self.llama.model.layers)
        word_of, form_of = vocabulary.families(tokenizer.get_vocab())
        self.register_buffer("word_of", torch.tensor(word_of), persistent=False)
        self.register_buffer("form_of", torch.tensor(form_of), persistent=False)
        width = SHAPE["hidden_size"]
        # Large beside a step of the optimizer, so that the circuit outlives the first hundred of them.
        self.word = torch.nn.Parameter(torch.randn(len(tokenizer), width) * 0.18)
        self.form = torch.nn.Parameter(torch.randn(5, width) * 0.02)
        self.token = torch.nn.Parameter(torch.randn(len(tokenizer), width) * 0.08)
        for part, constant in ((self.word, 0.0), (self.token, 0.0), (self.form, 0.6)):
            part.data[:, 0] = constant  # alike in all tokens: what a head that looks by place alone reads
        self.llama.model.norm.weight.data.fill_(0.4)

    def embedding(self) -> torch.Tensor:
        return self.token + self.word[self.word_of] + self.form[self.form_of]

    def states(self, ids: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        """Last hidden states [rows, length, width] of ids [rows, length], padded at the end."""
        return self.llama.model(inputs_embeds=table[ids], use_cache=False).last_hidden_state

    def matrices(self) -> list[torch.nn.Parameter]:
        return [p for p in self.llama.model.layers.parameters() if p.ndim == 2]

    def others(self) -> list[torch.nn.Parameter]:
        norms = [p for name, p in self.llama.model.named_parameters() if p.ndim == 1]
        return [self.word, self.form, self.token, *norms]

    def take(self, folder: Path) -> None:
        """Begin with the plain model in a folder; layers that it lacks stay as they start, before its last one."""
        from safetensors.torch import load_file

        loaded = load_file(folder / "model.safetensors")
        last = max(int(name.split(".")[2]) for name in loaded if name.startswith("model.layers."))
        own = len(self.llama.model.layers) - 1
        renamed = {name.replace(f"model.layers.{last}.", f"model.layers.{own}."): held for name, held in loaded.items()}
        # `own` is among the loaded names only where no layer is lacking; the tied head is not in the file.
        self.llama.load_state_dict(renamed, strict=False)
        with torch.no_grad():
            self.token.copy_(self.llama.model.embed_tokens.weight)
            self.word.zero_()
            self.form.zero_()

    def folded(self) -> Any:
        """The plain Llama: the sum written into its embedding."""
        with torch.no_grad():
            self.llama.model.embed_tokens.weight.copy_(self.embedding())
        return self.llama
