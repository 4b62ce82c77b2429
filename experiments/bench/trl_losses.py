"""What TRL's own loss functions say of a fixed batch, as a fast test's golden numbers.

    python experiments/bench/trl_losses.py tests/golden/trl_losses.json

Needs TRL (pip install trl), which is no dependency of the project. The loss methods of its trainers are called as they
are, on log-probabilities that are given to them in place of a model's.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import trl
from trl import DPOTrainer, GRPOTrainer
from trl.trainer.utils import nanstd

LENGTHS = [3, 7, 1, 5, 4, 6]  # tokens of six answers: two groups of three; three preferences, the chosen ones first
ROOM = 9  # tokens that an answer may take


class Same:
    """An accelerator of one process."""

    num_processes = 1
    device = torch.device("cpu")

    def __getattr__(self, name: str) -> Any:
        return lambda value, *args, **kwargs: value


def batch() -> dict[str, Any]:
    """Log-probabilities of the answers' tokens: of now, of when they were written, of the reference; and rewards."""
    drawn = torch.Generator().manual_seed(0)
    width = max(LENGTHS)

    def logps(spread: float, around: torch.Tensor | None = None) -> torch.Tensor:
        noise = torch.randn(len(LENGTHS), width, generator=drawn)
        return -noise.abs() - 0.1 if around is None else around + spread * noise

    new = logps(1.0)
    mask = torch.tensor([[float(place < length) for place in range(width)] for length in LENGTHS])
    return {
        "new": new * mask,
        "old": logps(0.3, new) * mask,
        "reference": logps(0.5, new) * mask,
        "mask": mask,
        "rewards": torch.tensor([0.2, 0.9, -0.4, 1.0, 1.0, 0.1]),
    }


def grpo(kind: str, ratio: str, fresh: bool, kl: float, given: dict[str, Any]) -> dict[str, Any]:
    """The loss and its gradient by the log-probabilities."""
    logps = given["new"].clone().requires_grad_(True)
    rewards = given["rewards"].view(2, 3)
    spread = torch.stack([nanstd(group) for group in rewards]) if kind != "dr_grpo" else None
    advantages = rewards - rewards.mean(dim=1, keepdim=True)
    if spread is not None:
        advantages = advantages / (spread.view(2, 1) + 1e-4)
    args = SimpleNamespace(
        delta=None,
        use_bias_correction_kl=False,
        steps_per_generation=1,
        top_k=None,
        report_to=[],
        log_completions=False,
    )
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (logps, torch.zeros_like(logps), None),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level=ratio,
        beta=kl,
        args=args,
        loss_type=kind,
        epsilon_low=0.2,
        epsilon_high=0.28,
        use_vllm=False,
        vllm_importance_sampling_correction=False,
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        max_completion_length=ROOM,
        accelerator=Same(),
        _entropy_bonus_enabled=False,
        use_adaptive_entropy=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
    )
    empty = torch.zeros(len(LENGTHS), 0)
    inputs = {
        "prompt_ids": empty,
        "prompt_mask": empty,
        "completion_ids": torch.zeros_like(given["mask"]),
        "completion_mask": given["mask"],
        "advantages": advantages.flatten(),
        "ref_per_token_logps": given["reference"],
        "num_items_in_batch": given["mask"].sum(),
    }
    if not fresh:
        inputs["old_per_token_logps"] = given["old"]
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    loss.backward()
    return {"loss": float(loss.detach()), "gradient": (logps.grad * given["mask"]).tolist()}


def dpo(kind: str, given: dict[str, Any]) -> float:
    """The loss of three preferences."""
    mask = given["mask"]
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        aux_loss_enabled=False,
        accelerator=Same(),
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[kind],
        loss_weights=[1.0],
        beta=0.3,
        use_weighting=False,
        label_smoothing=0.0,
        _total_train_tokens=0,
        _tp_size=1,
        args=SimpleNamespace(),
        _metrics=defaultdict(lambda: defaultdict(list)),
    )
    first = torch.zeros(len(LENGTHS), 1)  # TRL shifts by one token: the prompt's last
    inputs = {
        "input_ids": torch.zeros(len(LENGTHS), mask.shape[1] + 1, dtype=torch.long),
        "attention_mask": torch.ones(len(LENGTHS), mask.shape[1] + 1),
        "completion_mask": torch.cat([first, mask], dim=1),
        "ref_chosen_logps": given["reference"].sum(dim=1)[:3],
        "ref_rejected_logps": given["reference"].sum(dim=1)[3:],
    }
    model = lambda **kwargs: SimpleNamespace(  # noqa: E731 - what a model would say
        log_probs=given["new"],
        entropy=torch.zeros_like(given["new"]),
        mean_logits=torch.zeros_like(given["new"]),
        is_top1=torch.zeros_like(given["new"], dtype=torch.bool),
        loss=torch.zeros(()),
    )
    return float(DPOTrainer._compute_loss(trainer, model, inputs, False))


def main() -> None:
    """Write the batch and every loss of it."""
    given = batch()
    losses = [
        {"kind": kind, "ratio": ratio, "fresh": fresh, "kl": kl, **grpo(kind, ratio, fresh, kl, given)}
        for kind in ("grpo", "bnpo", "dr_grpo")
        for ratio in (("token", "sequence") if kind == "grpo" else ("token",))
        for fresh in (True, False)
        for kl in (0.0, 0.04)
    ]
    # DAPO's loss, over all tokens of the step, is what bnpo is here, where passes do not change a step's mean
    dapo = grpo("dapo", "token", False, 0.0, given)
    preferences = {kind: dpo(kind, given) for kind in ("sigmoid", "sigmoid_norm", "ipo")}
    tables = {name: values.tolist() for name, values in given.items()}
    found = {"trl": trl.__version__, "room": ROOM, "batch": tables, "grpo": losses, "dapo": dapo, "dpo": preferences}
    Path(sys.argv[1]).write_text(
        json.dumps(found, separators=(",", ":")).replace("},{", "},\n{") + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
