"""NARRE: reviews weighed by how useful they are, beside latent factors (Chen, Zhang, Liu and Ma, WWW 2018)."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import nn

from r4r.methods.review_documents import Targets, TextSettings, padded, pair_columns
from r4r.methods.review_rater import Known, ReviewMethod, ReviewRater, TrainingSettings, id_table
from r4r.methods.word_convolution import WordConvolution

Count = Annotated[int, Field(ge=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
ID_SD = 0.1  # of initial id vectors


class ReviewBatch(NamedTuple):
    """Pairs with a list of reviews a side.

    Attributes:
        user, item, rating: (batch,).
        words: int64 (1 + reviews, words), each review of the batch once; the first has no words.
        user_reviews, item_reviews: rows of `words`, int64 (batch, reviews a side); 0 pads.
        user_wrote_on, item_read_from: the counterpart of each of them: the item that the user reviewed, the user who
            reviewed the item; as int64 ids of the same shapes.
    """

    user: torch.Tensor
    item: torch.Tensor
    rating: torch.Tensor
    words: torch.Tensor
    user_reviews: torch.Tensor
    user_wrote_on: torch.Tensor
    item_reviews: torch.Tensor
    item_read_from: torch.Tensor


class Side(nn.Module):
    """One half of the model: a user (or an item) as the weighed sum of what its reviews say."""

    def __init__(self, counterparts: int, word_dim: int, filters: int, width: int, dim: int, attention_dim: int):
        super().__init__()
        self.convolution = WordConvolution(word_dim, filters, width)
        self.counterpart = id_table(counterparts, dim, ID_SD)
        self.of_review = nn.Linear(filters, attention_dim)
        self.of_id = nn.Linear(dim, attention_dim, bias=False)
        self.score = nn.Linear(attention_dim, 1, bias=False)  # the paper's b_2 falls out of the softmax
        self.dense = nn.Linear(filters, dim)

    def weights(self, features: torch.Tensor, others: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Attention over the real reviews, (batch, reviews); all zero where there are none.

        Args:
            features: of each review, (batch, reviews, filters).
            others: counterpart ids, (batch, reviews).
            real: where there is a review, bool (batch, reviews).
        """
        scores = self.score((self.of_review(features) + self.of_id(self.counterpart(others))).relu()).squeeze(2)
        scores = scores.masked_fill(~real, torch.finfo(scores.dtype).min)
        return scores.softmax(dim=1) * real

    def forward(
        self, words: torch.Tensor, reviews: torch.Tensor, others: torch.Tensor, vectors: nn.Embedding, drop: nn.Dropout
    ) -> torch.Tensor:
        """Features of the side, (batch, dim), from `words`, `reviews` and `others` as in ReviewBatch."""
        kept, places = torch.unique(reviews, return_inverse=True)  # each review encoded once, of this side alone
        features = nn.functional.embedding(places, self.convolution.largest(words[kept], vectors))
        weights = self.weights(features, others, reviews > 0)
        return self.dense(drop((weights[:, None] @ features).squeeze(1)))


class Network(ReviewRater):
    def __init__(
        self,
        known: Known,
        training: TrainingSettings,
        filters: int,
        width: int,
        dim: int,
        attention_dim: int,
        dropout: float,
    ):
        super().__init__(known, training)
        word_dim = known.vectors.shape[1]
        self.user_side = Side(known.items, word_dim, filters, width, dim, attention_dim)
        self.item_side = Side(known.users, word_dim, filters, width, dim, attention_dim)
        self.user, self.item = id_table(known.users, dim, ID_SD), id_table(known.items, dim, ID_SD)
        self.dropout = nn.Dropout(dropout)
        self.rate = nn.Linear(dim, 1, bias=False)

    def match(self, batch: ReviewBatch) -> torch.Tensor:
        """w . ((q_u + X_u) * (p_i + Y_i))."""
        x = self.user_side(batch.words, batch.user_reviews, batch.user_wrote_on, self.words, self.dropout)
        y = self.item_side(batch.words, batch.item_reviews, batch.item_read_from, self.words, self.dropout)
        both = (self.user(batch.user) + x) * (self.item(batch.item) + y)
        return self.rate(self.dropout(both)).squeeze(1)


class NARRE(ReviewMethod):
    title = "NARRE"

    def __init__(
        self,
        name: str = "narre",
        max_reviews: Count = 20,
        review_words: Count = 200,
        filters: Count = 100,
        width: Count = 3,
        dim: Count = 32,
        attention_dim: Count = 32,
        dropout: Dropout = 0.5,
        text: TextSettings = TextSettings(),  # noqa: B008 (frozen)
        training: TrainingSettings = TrainingSettings(),  # noqa: B008
    ):
        """
        Args:
            max_reviews: the newest reviews a side that are read; review_words: first words of each of them.
            dim: of id vectors and of the features they are added to.
        """
        self.max_reviews, self.review_words = max_reviews, review_words
        sizes: dict[str, Any] = {"filters": filters, "width": width, "dim": dim, "attention_dim": attention_dim}
        super().__init__(
            name,
            text,
            training,
            {**sizes, "dropout": dropout, "max_reviews": max_reviews, "review_words": review_words},
        )
        self.sizes, self.dropout = sizes, dropout

    def network(self, known: Known) -> Network:
        return Network(known, self.training, **self.sizes, dropout=self.dropout)

    def collate(self, rows: Targets, chosen: Sequence[int]) -> ReviewBatch:
        library = rows.library
        sides: list[Callable[[int, int], np.ndarray]] = [rows.user_reviews, rows.item_reviews]
        by_user, by_item = ([side(k, self.max_reviews) for k in chosen] for side in sides)
        kept = np.unique(np.concatenate([*by_user, *by_item]))
        words = [np.empty(0, np.int64), *(library.words[position][: self.review_words] for position in kept)]
        return ReviewBatch(
            *pair_columns(rows, chosen),
            padded(words),
            padded([np.searchsorted(kept, positions) + 1 for positions in by_user]),
            padded([library.item_of[positions] for positions in by_user]),
            padded([np.searchsorted(kept, positions) + 1 for positions in by_item]),
            padded([library.user_of[positions] for positions in by_item]),
        )
