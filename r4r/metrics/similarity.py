"""Cosine of sentence embeddings (Reimers and Gurevych 2019): do two texts speak of the same things?

It does not see a reason that is turned on its head: "they would love the melodies" and "they would hate the melodies"
are near each other. Read it beside a score that does (BLEURT, GPTScore), and never alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from r4r.errors import ModelError
from r4r.loading import load_whole
from r4r.metrics.text_batches import by_length, padded


class SentenceEncoder:
    """A BERT-like encoder whose token states are averaged, such as all-MiniLM-L6-v2.

    Args:
        max_length: tokens; longer texts are cut.
        batch_rows: texts at once.
    """

    def __init__(self, model: Any, tokenizer: Any, max_length: int = 256, batch_rows: int = 32):
        self.model, self.tokenizer = model.eval(), tokenizer
        self.max_length, self.batch_rows = max_length, batch_rows

    @classmethod
    def load(cls, folder: Path, device: torch.device, max_length: int = 256, batch_rows: int = 32) -> "SentenceEncoder":
        """
        Raises:
            ModelError: the folder holds no such model.
        """
        from transformers import AutoModel, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{folder} holds no sentence encoder ({str(error).splitlines()[0]}); set metrics.similarity.source"
            ) from error
        # texts are the mean of their tokens: what pools them otherwise is not used
        model = load_whole(AutoModel, folder, str(folder), "pooler.", local_files_only=True, dtype=torch.float32)
        return cls(model.to(device), tokenizer, max_length, batch_rows)

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """(texts, width) float32 on the CPU, each of length one."""
        ids = [self.tokenizer(text, truncation=True, max_length=self.max_length)["input_ids"] for text in texts]
        out = torch.empty(len(texts), self.model.config.hidden_size)
        device = self.model.device
        for places in by_length([len(each) for each in ids], self.batch_rows):
            chosen = [ids[place] for place in places]
            mask = padded([[1] * len(each) for each in chosen], 0, device)
            states = self.model(input_ids=padded(chosen, self.tokenizer.pad_token_id, device), attention_mask=mask)
            weights = mask.unsqueeze(-1).float()
            mean = (states.last_hidden_state * weights).sum(1) / weights.sum(1)
            out[places] = torch.nn.functional.normalize(mean, dim=-1).float().cpu()
        return out

    def score(self, reasons: Sequence[str], reviews: Sequence[str]) -> list[float]:
        """Cosine of each reason and its review, -1 to 1; 0 where one of the two is empty."""
        cosines = (self.embed(reasons) * self.embed(reviews)).sum(-1).tolist() if reasons else []
        return [
            cosine if reason.strip() and review.strip() else 0.0
            for cosine, reason, review in zip(cosines, reasons, reviews, strict=True)
        ]
