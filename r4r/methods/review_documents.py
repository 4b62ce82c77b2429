"""What a review-based rater reads of each target: reviews as word indices, cut at the target's time."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from r4r.configuration.schema import Section
from r4r.data.history import HistoryIndex
from r4r.errors import DataError

PAD, UNKNOWN = 0, 1  # word indices; a vocabulary's own words start at 2
WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)*")
RANDOM_SD = 0.1  # of word vectors that no file gives


class TextSettings(Section):
    """What is read, and two controls.

    `include_target_review` adds a TRAIN target's own review, the newest, to both of its documents: the leak of
    published baselines that take documents from the whole of train. Valid and test documents stay as they are.

    `shuffle_reviews` gives each review the text of another user's: what a rater then still gains over the biases does
    not come from what the texts say. Ratings, ids and times stay; the texts come from any time of the history rows.
    """

    vocabulary: int = Field(50_000, ge=1)  # most frequent words of train; the rest are one unknown word
    word_dim: int = Field(300, ge=1)
    word_vectors: str | None = None  # file of pretrained vectors (see read_vectors); null: random
    include_target_review: bool = False
    shuffle_reviews: bool = False


class Vocabulary:
    """The `size` most frequent words of some texts, ties by spelling."""

    def __init__(self, texts: Sequence[str], size: int):
        counts = Counter(word for text in texts for word in split_words(text))
        kept = sorted(counts, key=lambda word: (-counts[word], word))[:size]
        self.index = {word: place for place, word in enumerate(kept, start=2)}

    def __len__(self) -> int:
        """Indices in use, those of padding and of the unknown word included."""
        return len(self.index) + 2

    def encode(self, text: str) -> np.ndarray:
        """Word indices of a text, int64 (words,)."""
        return np.array([self.index.get(word, UNKNOWN) for word in split_words(text)], dtype=np.int64)


def split_words(text: str) -> list[str]:
    return WORD.findall(text.lower())


class Library:
    """The reviews that documents are made of, and who and what train knows.

    Args:
        rows: the whole split (rows.REVIEWS); vocabulary, users and items come from its train rows alone.
        past: the rows that may appear in a history.
        seed: of the shuffled-review control.

    Attributes:
        words: word indices of each past review, int64 (words,), by position in `past`.
        user_of, item_of: index of each past review's user and item, int64 (reviews,); 0 is one that train lacks.
    """

    def __init__(self, rows: pd.DataFrame, past: pd.DataFrame, text: TextSettings, seed: int):
        train = rows[rows["split"] == "train"]
        self.users, self.items = (pd.Index(sorted(train[column].unique())) for column in ("user_id", "item_id"))
        self.vocabulary = Vocabulary(train["review"].tolist(), text.vocabulary)
        texts = past["review"].tolist()
        if text.shuffle_reviews:
            texts = [texts[k] for k in of_other_users(past["user_id"].to_numpy(object), seed)]
        self.words = [self.vocabulary.encode(each) for each in texts]
        self.user_of, self.item_of = self.indices(past)
        self.history = HistoryIndex(past)
        self._place = pd.Index(past["row_id"])

    def indices(self, part: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """User and item index of each row, int64 (n,); 0 where train lacks them."""
        users, items = self.users.get_indexer(part["user_id"]), self.items.get_indexer(part["item_id"])
        return users.astype(np.int64) + 1, items.astype(np.int64) + 1

    def positions(self, row_ids: np.ndarray) -> np.ndarray:
        """Positions in `past`, int64 (n,)."""
        return self._place.get_indexer(pd.Index(row_ids)).astype(np.int64)


class Targets:
    """Rows to rate, each with the reviews known before its time.

    Args:
        part: the rows (rows.REVIEWS); their own reviews are read only with `own_review`.
        own_review: let each row's own review be the newest of its history, on both sides.
    """

    def __init__(self, library: Library, part: pd.DataFrame, own_review: bool = False):
        self.library, self.own_review = library, own_review
        self.user, self.item = library.indices(part)
        self.rating = part["rating"].to_numpy(np.float32)
        self.row_ids = part["row_id"].to_numpy(np.int64)
        self._known = library.history.before(part)

    def __len__(self) -> int:
        return len(self.user)

    def user_reviews(self, k: int, last: int) -> np.ndarray:
        """Positions in the library of the newest `last` reviews by target k's user, newest first."""
        return self._newest_first(k, self._known.user_rows(k, last), last)

    def item_reviews(self, k: int, last: int) -> np.ndarray:
        """Positions in the library of the newest `last` reviews of target k's item, newest first."""
        return self._newest_first(k, self._known.item_rows(k, last), last)

    def _newest_first(self, k: int, row_ids: np.ndarray, last: int) -> np.ndarray:
        chosen = row_ids[::-1]
        if self.own_review:
            chosen = np.concatenate([self.row_ids[k : k + 1], chosen])[:last]
        return self.library.positions(chosen)


class DocumentBatch(NamedTuple):
    """Pairs with one document a side: user, item, rating (batch,); words int64 (batch, words), padded with PAD."""

    user: torch.Tensor
    item: torch.Tensor
    rating: torch.Tensor
    user_words: torch.Tensor
    item_words: torch.Tensor


def document_batch(targets: Targets, chosen: Sequence[int], words: int) -> DocumentBatch:
    """The documents of some targets: their reviews one after another, newest first, cut after `words` words."""

    def document(positions: np.ndarray) -> np.ndarray:
        texts, room = [np.empty(0, np.int64)], words
        for position in positions:
            texts.append(targets.library.words[position][:room])
            room -= len(texts[-1])
            if room <= 0:
                break
        return np.concatenate(texts)

    return DocumentBatch(
        *pair_columns(targets, chosen),
        padded([document(targets.user_reviews(k, words)) for k in chosen]),
        padded([document(targets.item_reviews(k, words)) for k in chosen]),
    )


def pair_columns(targets: Targets, chosen: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """User index, item index and rating of some targets, each (batch,)."""
    rows = np.asarray(chosen, dtype=np.int64)
    user, item, rating = (torch.from_numpy(column[rows]) for column in (targets.user, targets.item, targets.rating))
    return user, item, rating


def padded(lists: Sequence[np.ndarray]) -> torch.Tensor:
    """Index lists as one int64 matrix (lists, longest; at least 1), filled up with 0."""
    out = np.zeros((len(lists), max([1, *map(len, lists)])), dtype=np.int64)
    for row, values in zip(out, lists, strict=True):
        row[: len(values)] = values
    return torch.from_numpy(out)


def of_other_users(users: np.ndarray, seed: int) -> np.ndarray:
    """A random permutation, int64 (n,), that sends no row to a row of the same user.

    Rows are laid out user by user, in random order, and moved on by the largest user's count.

    Raises:
        DataError: one user has more than half of the rows, so that there is none.
    """
    codes, _ = pd.factorize(users)
    most = int(np.bincount(codes).max()) if len(codes) else 0
    if 2 * most > len(codes):
        raise DataError(
            f"text.shuffle_reviews: one user wrote {most} of {len(codes)} reviews, so their texts cannot all go to "
            "others; use a larger data set"
        )
    generator = np.random.default_rng(seed)
    place = generator.permutation(codes.max() + 1)[codes]
    laid_out = np.lexsort((generator.random(len(codes)), place))
    out = np.empty(len(codes), dtype=np.int64)
    out[laid_out] = np.roll(laid_out, -most)
    return out


def read_vectors(path: Path, dim: int, vocabulary: Vocabulary) -> dict[int, np.ndarray]:
    """Pretrained vectors of the vocabulary's words, float32 (dim,), by word index.

    Args:
        path: GloVe or word2vec text (a word and `dim` numbers a line; word2vec's first line counts them), or a `.npy`
            matrix (words, dim) whose words stand one a line in a `.txt` file of the same name beside it.

    Raises:
        DataError: naming file and line, where it cannot be read or holds vectors of another length.
    """
    if not path.is_file():
        raise DataError(f"text.word_vectors: there is no file {path}")
    found: dict[int, np.ndarray] = {}
    if path.suffix == ".npy":
        names = path.with_suffix(".txt")
        if not names.is_file():
            raise DataError(f"text.word_vectors: {path} needs its words, one a line, in {names}")
        matrix, words = np.load(path, mmap_mode="r", allow_pickle=False), names.read_text(encoding="utf-8").split("\n")
        words = words[:-1] if words[-1] == "" else words
        if matrix.shape != (len(words), dim):
            raise DataError(
                f"text.word_vectors: {path} has shape {matrix.shape}; {names.name} and text.word_dim ask for "
                f"{(len(words), dim)}"
            )
        for row, word in enumerate(words):
            if word in vocabulary.index:
                found[vocabulary.index[word]] = np.asarray(matrix[row], dtype=np.float32)
        return found
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            word, *values = line.rstrip().split(" ")
            if number == 1 and len(values) == 1:
                continue  # word2vec's header: words, dimensions
            extra = len(values) - dim  # some published words contain spaces
            if extra < 0 or (extra > 0 and number <= 2):
                raise DataError(
                    f"text.word_vectors: {path}, line {number} has {len(values)} numbers, and text.word_dim is {dim}"
                )
            if not extra and word in vocabulary.index:
                try:
                    found[vocabulary.index[word]] = np.array(values, dtype=np.float32)
                except ValueError as error:
                    raise DataError(f"text.word_vectors: {path}, line {number}: {error}") from error
    return found


def word_matrix(text: TextSettings, vocabulary: Vocabulary, seed: int) -> tuple[torch.Tensor, int]:
    """Word vectors, float32 (indices, word_dim), and how many came from the file; padding and unknown are zero."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.empty(len(vocabulary), text.word_dim).normal_(0.0, RANDOM_SD, generator=generator)
    matrix[[PAD, UNKNOWN]] = 0.0
    given: dict[int, np.ndarray] = {}
    if text.word_vectors:
        given = read_vectors(Path(text.word_vectors).expanduser(), text.word_dim, vocabulary)
        for index, values in given.items():
            matrix[index] = torch.from_numpy(values)
    return matrix, len(given)
