"""A convolution over the words of many texts (DeepCoNN, arXiv 1701.04783)."""

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from r4r.methods.review_documents import PAD

CHUNK_WORDS = 2**14  # word positions whose filter values are in memory at once, where only the largest is kept


class WordConvolution(nn.Module):
    """Filters over windows of words, by lookup: value(t) = bias + sum_k W_k e(word t+k).

    W_k e is computed once for each distinct word of the batch and then looked up at every place where the word stands:
    the same numbers as a convolution over the embedded texts, for a fraction of its work. Windows are centred on real
    words; what lies outside of the text is zero.
    """

    def __init__(self, dim: int, filters: int, width: int):
        super().__init__()
        self.width, self.before = width, (width - 1) // 2
        self.weight = nn.Parameter(torch.empty(width, dim, filters))
        self.bias = nn.Parameter(torch.zeros(filters))
        bound = (6 / (width * dim + filters)) ** 0.5  # Glorot and Bengio 2010
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, words: torch.Tensor, vectors: nn.Embedding, scale: torch.Tensor | None = None) -> torch.Tensor:
        """Values at every word, (texts, words, filters); `scale` (texts, words) multiplies the word vectors."""
        table, windows = self._table(words, vectors)
        factors = None if scale is None else self._widened(scale)
        length = words.shape[1]
        total: torch.Tensor = self.bias
        for k in range(self.width):
            part = nn.functional.embedding(windows[:, k : k + length], table[k])
            total = total + (part if factors is None else part * factors[:, k : k + length, None])
        return total

    def largest(self, words: torch.Tensor, vectors: nn.Embedding) -> torch.Tensor:
        """ReLU and max-pooling over the words of each text, (texts, filters); zero for a text without words.

        Only the largest value of a filter passes a gradient on, so that the others are computed without one, a chunk of
        texts of about equal length at a time.
        """
        table, windows = self._table(words, vectors)
        lengths = (words != PAD).sum(dim=1)
        with torch.no_grad():
            place = torch.zeros(len(words), self.bias.shape[0], dtype=torch.long, device=words.device)
            order = lengths.argsort()
            for texts in _chunks(order, lengths[order].tolist()):
                length = max(1, int(lengths[texts[-1]]))
                near = windows[texts, : length + self.width - 1]
                values = nn.functional.embedding(near[:, :length], table[0].detach())
                for k in range(1, self.width):
                    values += nn.functional.embedding(near[:, k : k + length], table[k].detach())
                values.masked_fill_((words[texts, :length] == PAD)[:, :, None], -torch.inf)
                place[texts] = values.max(dim=1).indices
        best = self.bias + sum(table[k].gather(0, windows.gather(1, place + k)) for k in range(self.width))
        return best.relu() * (lengths > 0)[:, None]

    def _table(self, words: torch.Tensor, vectors: nn.Embedding) -> tuple[torch.Tensor, torch.Tensor]:
        """W_k e of the distinct words, (width, distinct, filters), padding being the first; words as indices into it,
        (texts, words + width - 1)."""
        seen = torch.zeros(vectors.num_embeddings, dtype=torch.bool, device=words.device)
        seen[words.flatten()] = True
        seen[PAD] = True
        local = (seen.cumsum(0) - 1)[words]
        return vectors(seen.nonzero().squeeze(1)) @ self.weight, self._widened(local)

    def _widened(self, values: torch.Tensor) -> torch.Tensor:
        return nn.functional.pad(values, (self.before, self.width - 1 - self.before))


def _chunks(order: torch.Tensor, lengths: Sequence[int]) -> Iterator[torch.Tensor]:
    """Runs of texts, shortest first, whose padded size stays within CHUNK_WORDS (or that are one text)."""
    start = 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or (end + 1 - start) * lengths[end] > CHUNK_WORDS:
            yield order[start:end]
            start = end
