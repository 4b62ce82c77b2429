"""DeepCoNN: two convolutional towers over a user's and an item's reviews (Zheng, Noroozi and Yu, WSDM 2017)."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from r4r.methods.review_documents import DocumentBatch, Targets, TextSettings, document_batch
from r4r.methods.review_rater import Known, ReviewMethod, ReviewRater, TrainingSettings
from r4r.methods.word_convolution import WordConvolution

Count = Annotated[int, Field(ge=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]


class Tower(nn.Module):
    """A document's feature vector: convolution, ReLU, max-pooling over time, one dense layer."""

    def __init__(self, word_dim: int, filters: int, width: int, feature_dim: int):
        super().__init__()
        self.convolution = WordConvolution(word_dim, filters, width)
        self.dense = nn.Linear(filters, feature_dim)

    def forward(self, words: torch.Tensor, vectors: nn.Embedding) -> torch.Tensor:
        """(batch, words) -> (batch, feature_dim)."""
        return self.dense(self.convolution.largest(words, vectors)).relu()


class FactorizationMachine(nn.Module):
    """Linear and pairwise terms of a feature vector (Rendle 2010), its constant left out."""

    def __init__(self, dim: int, factors: int):
        super().__init__()
        self.linear = nn.Linear(dim, 1, bias=False)
        self.factors = nn.Parameter(torch.empty(dim, factors).normal_(0.0, 0.1))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """(batch, dim) -> (batch,): w.z + sum_{i<j} <v_i, v_j> z_i z_j, in linear time."""
        pairs = (z @ self.factors).square() - z.square() @ self.factors.square()
        return self.linear(z).squeeze(1) + 0.5 * pairs.sum(dim=1)


class Network(ReviewRater):
    def __init__(
        self,
        known: Known,
        training: TrainingSettings,
        filters: int,
        width: int,
        feature_dim: int,
        factors: int,
        dropout: float,
        id_biases: bool,
    ):
        super().__init__(known, training)
        dim = known.vectors.shape[1]
        self.user_tower = Tower(dim, filters, width, feature_dim)
        self.item_tower = Tower(dim, filters, width, feature_dim)
        self.dropout = nn.Dropout(dropout)
        self.machine = FactorizationMachine(2 * feature_dim, factors)
        if not id_biases:
            self.user_bias.requires_grad_(False)
            self.item_bias.requires_grad_(False)

    def match(self, batch: DocumentBatch) -> torch.Tensor:
        x, y = self.user_tower(batch.user_words, self.words), self.item_tower(batch.item_words, self.words)
        return self.machine(self.dropout(torch.cat([x, y], dim=1)))


class DeepCoNN(ReviewMethod):
    """The paper's shared layer is a factorization machine on both towers' features.

    `id_biases` adds what such a machine learns of the ids: a bias a user and an item. The paper has none (false).
    """

    title = "DeepCoNN"

    def __init__(
        self,
        name: str = "deepconn",
        document_words: Count = 500,
        filters: Count = 100,
        width: Count = 3,
        feature_dim: Count = 32,
        factors: Count = 10,
        dropout: Dropout = 0.5,
        id_biases: bool = True,
        text: TextSettings = TextSettings(),  # noqa: B008 (frozen)
        training: TrainingSettings = TrainingSettings(),  # noqa: B008
    ):
        """
        Args:
            document_words: newest words of all reviews of a side.
            filters, width: of each tower's convolution, in words.
        """
        self.document_words = document_words
        sizes: dict[str, Any] = {"filters": filters, "width": width, "feature_dim": feature_dim, "factors": factors}
        self.sizes = {**sizes, "dropout": dropout, "id_biases": id_biases}
        super().__init__(name, text, training, {**self.sizes, "document_words": document_words})

    def network(self, known: Known) -> Network:
        return Network(known, self.training, **self.sizes)

    def collate(self, rows: Targets, chosen: Sequence[int]) -> DocumentBatch:
        return document_batch(rows, chosen, self.document_words)
