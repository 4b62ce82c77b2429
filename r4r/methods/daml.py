"""DAML: local and mutual attention between two documents, fused with ids (Liu, Li, Du, Chang and Gao, KDD 2019)."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from r4r.methods.review_documents import PAD, DocumentBatch, Targets, TextSettings, document_batch
from r4r.methods.review_rater import Known, ReviewMethod, ReviewRater, TrainingSettings, id_table
from r4r.methods.word_convolution import WordConvolution

Count = Annotated[int, Field(ge=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
NEAR = 1e-6  # below this squared distance no gradient flows: the root has none at 0
ID_SD = 0.1  # of initial id vectors


def nearness(user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
    """1 / (1 + distance) between every word of one document and every word of the other.

    Args:
        user: word features (batch, user words, filters); item likewise.

    Returns:
        (batch, user words, item words).
    """
    squared = user.square().sum(2)[:, :, None] + item.square().sum(2)[:, None] - 2 * user @ item.transpose(1, 2)
    return 1 / (1 + squared.clamp_min(NEAR).sqrt())


class Local(nn.Module):
    """Words weighed by their neighbours, then convolved: local attention."""

    def __init__(self, word_dim: int, filters: int, width: int, attention_width: int):
        super().__init__()
        self.attention = WordConvolution(word_dim, 1, attention_width)
        self.convolution = WordConvolution(word_dim, filters, width)

    def forward(self, words: torch.Tensor, vectors: nn.Embedding) -> torch.Tensor:
        """(batch, words) -> features of each word, (batch, words, filters)."""
        weights = self.attention(words, vectors).squeeze(2).sigmoid()
        return self.convolution(words, vectors, scale=weights).relu()


class Abstract(nn.Module):
    """A document's feature vector from its weighed words: local pooling, convolution, mean-pooling, a dense layer."""

    def __init__(self, filters: int, width: int, feature_dim: int):
        super().__init__()
        self.width, self.before = width, (width - 1) // 2
        self.convolution = nn.Conv1d(filters, filters, width)
        self.dense = nn.Linear(filters, feature_dim)

    def forward(self, features: torch.Tensor, weights: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """(batch, feature_dim), from features (batch, words, filters), weights and real (batch, words)."""
        weighed = (features * (weights * real)[:, :, None]).transpose(1, 2)
        pooled = self._widened(weighed).unfold(2, self.width, 1).sum(3) * real[:, None]
        values = self.convolution(self._widened(pooled)).relu() * real[:, None]
        mean = values.sum(2) / real.sum(1).clamp_min(1)[:, None]
        return self.dense(mean).relu()

    def _widened(self, values: torch.Tensor) -> torch.Tensor:
        return nn.functional.pad(values, (self.before, self.width - 1 - self.before))


class FactorizationNetwork(nn.Module):
    """Neural factorization machine (He and Chua 2017), its constant left out: w.z + h . MLP(pairwise products of z)."""

    def __init__(self, dim: int, factors: int, dropout: float):
        super().__init__()
        self.linear = nn.Linear(dim, 1, bias=False)
        self.factors = nn.Parameter(torch.empty(dim, factors).normal_(0.0, 0.1))
        self.deep = nn.Sequential(
            nn.Linear(factors, factors), nn.ReLU(), nn.Dropout(dropout), nn.Linear(factors, 1, bias=False)
        )

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """(batch, dim) -> (batch,)."""
        pairs = 0.5 * ((z @ self.factors).square() - z.square() @ self.factors.square())
        return (self.linear(z) + self.deep(pairs)).squeeze(1)


class Network(ReviewRater):
    def __init__(
        self,
        known: Known,
        training: TrainingSettings,
        filters: int,
        width: int,
        attention_width: int,
        dim: int,
        factors: int,
        dropout: float,
    ):
        super().__init__(known, training)
        word_dim = known.vectors.shape[1]
        self.user_local = Local(word_dim, filters, width, attention_width)
        self.item_local = Local(word_dim, filters, width, attention_width)
        self.user_abstract, self.item_abstract = Abstract(filters, width, dim), Abstract(filters, width, dim)
        self.user, self.item = id_table(known.users, dim, ID_SD), id_table(known.items, dim, ID_SD)
        self.dropout = nn.Dropout(dropout)
        self.machine = FactorizationNetwork(4 * dim, factors, dropout)

    def match(self, batch: DocumentBatch) -> torch.Tensor:
        user_real, item_real = batch.user_words != PAD, batch.item_words != PAD
        user = self.user_local(batch.user_words, self.words)
        item = self.item_local(batch.item_words, self.words)
        near = nearness(user, item) * (user_real[:, :, None] & item_real[:, None])
        # means instead of the paper's sums, so that a feature's size does not grow with the other document's length
        user_weights = near.sum(2) / item_real.sum(1).clamp_min(1)[:, None]
        item_weights = near.sum(1) / user_real.sum(1).clamp_min(1)[:, None]
        x = self.user_abstract(user, user_weights, user_real)
        y = self.item_abstract(item, item_weights, item_real)
        ids = self.user(batch.user), self.item(batch.item)
        return self.machine(self.dropout(torch.cat([x, y, *ids], dim=1)))


class DAML(ReviewMethod):
    """Mutual attention holds matrices of batch x document_words^2 floats (32 MB each at the defaults, about ten of them
    while training): raise `document_words` or the batch with that in mind.
    """

    title = "DAML"

    def __init__(
        self,
        name: str = "daml",
        document_words: Count = 500,
        filters: Count = 100,
        width: Count = 3,
        attention_width: Count = 5,
        dim: Count = 32,
        factors: Count = 10,
        dropout: Dropout = 0.5,
        text: TextSettings = TextSettings(),  # noqa: B008 (frozen)
        training: TrainingSettings = TrainingSettings(batch_size=32),  # noqa: B008
    ):
        """
        Args:
            document_words: newest words of all reviews of a side.
            attention_width: words that local attention looks at; width: of both convolutions and the local pooling.
            dim: of id vectors and of review features.
        """
        self.document_words = document_words
        sizes: dict[str, Any] = {
            "filters": filters,
            "width": width,
            "attention_width": attention_width,
            "dim": dim,
            "factors": factors,
        }
        self.sizes, self.dropout = sizes, dropout
        super().__init__(name, text, training, {**sizes, "dropout": dropout, "document_words": document_words})

    def network(self, known: Known) -> Network:
        return Network(known, self.training, **self.sizes, dropout=self.dropout)

    def collate(self, rows: Targets, chosen: Sequence[int]) -> DocumentBatch:
        return document_batch(rows, chosen, self.document_words)
