"""What the review-based raters read: nothing that was not known at the target's time."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from review_worlds import METHODS, small

from r4r.errors import DataError
from r4r.methods.review_documents import (
    UNKNOWN,
    Library,
    Targets,
    TextSettings,
    Vocabulary,
    document_batch,
    of_other_users,
    read_vectors,
    word_matrix,
)
from r4r.methods.review_rater import ReviewMethod

Event = tuple[str, str, int]  # user, item, timestamp


def canaries(events: list[Event], train_share: float = 0.7) -> pd.DataFrame:
    """One review an event, in order of time, each with a word that no other has."""
    events = sorted(events, key=lambda event: event[2])
    table = pd.DataFrame(events, columns=["user_id", "item_id", "timestamp"])
    table = table.assign(row_id=range(len(table)), title="t", rating=3.0)
    table["review"] = [f"canary{k} common" for k in range(len(table))]
    cut = max(1, int(train_share * len(table)))
    return table.assign(split=["train" if k < cut else "valid" if k % 2 else "test" for k in range(len(table))])


def canaries_in(
    method: ReviewMethod, rows: pd.DataFrame, part: pd.DataFrame, own: bool = False
) -> list[list[set[int]]]:
    """For each row of part: the row_ids whose canary stands in its user's and in its item's documents."""
    library = Library(rows, rows[rows["split"] == "train"], TextSettings(), seed=0)
    word_of = {index: word for word, index in library.vocabulary.index.items()}
    targets = Targets(library, part, own)
    found = []
    for k in range(len(part)):
        batch = method.collate(targets, [k])
        if hasattr(batch, "user_words"):
            sides = [batch.user_words[0], batch.item_words[0]]
        else:
            sides = [batch.words[batch.user_reviews[0]].flatten(), batch.words[batch.item_reviews[0]].flatten()]
        words = [{word_of[index] for index in side.tolist() if index > UNKNOWN} for side in sides]
        found.append([{int(w.removeprefix("canary")) for w in side if w.startswith("canary")} for side in words])
    return found


def known_before(rows: pd.DataFrame, target: pd.Series, column: str) -> set[int]:
    """By hand: train rows of the target's user or item, strictly before its time."""
    same = rows[(rows["split"] == "train") & (rows[column] == target[column])]
    return set(same.loc[same["timestamp"] < target["timestamp"], "row_id"].tolist())


events = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 12)), min_size=4, max_size=24
)


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=25)
@given(events, st.booleans())
def test_documents_hold_what_was_known_and_nothing_else(name: str, made: list[Event], own: bool) -> None:
    rows = canaries(made)
    for split in ("train", "valid", "test"):
        part = rows[rows["split"] == split]
        leak = own and split == "train"
        for (user, item), (_, target) in zip(canaries_in(small(name), rows, part, leak), part.iterrows(), strict=True):
            extra = {int(target["row_id"])} if leak else set()
            assert user == known_before(rows, target, "user_id") | extra
            assert item == known_before(rows, target, "item_id") | extra


def test_the_newest_words_are_kept() -> None:
    rows = canaries([("a", "x", 1), ("a", "y", 2), ("a", "z", 3), ("b", "x", 4)], train_share=1)
    library = Library(rows, rows, TextSettings(), seed=0)
    target = rows.iloc[:1].assign(timestamp=9)
    batch = document_batch(Targets(library, target), [0], words=3)
    words = {index: word for word, index in library.vocabulary.index.items()}
    assert [words[index] for index in batch.user_words[0].tolist()] == ["canary2", "common", "canary1"]


def test_narre_reads_the_newest_reviews_with_their_counterparts() -> None:
    rows = canaries([("a", "x", 1), ("a", "y", 2), ("a", "z", 3), ("b", "x", 4)], train_share=1)
    library = Library(rows, rows, TextSettings(), seed=0)
    target = rows.iloc[:1].assign(timestamp=9)
    batch = small("narre", max_reviews=2).collate(Targets(library, target), [0])
    assert batch.user_wrote_on[0].tolist() == [library.items.get_loc("z") + 1, library.items.get_loc("y") + 1]
    assert batch.item_read_from[0].tolist() == [library.users.get_loc("b") + 1, library.users.get_loc("a") + 1]


def test_the_vocabulary_is_of_train_alone() -> None:
    rows = canaries([("a", "x", 1), ("a", "y", 2), ("b", "x", 3), ("b", "y", 4)], train_share=0.5)
    library = Library(rows, rows[rows["split"] != "test"], TextSettings(), seed=0)
    assert set(library.vocabulary.index) == {"canary0", "canary1", "common"}
    assert UNKNOWN in library.words[2]
    assert len(library.users) == 1


def test_the_vocabulary_keeps_the_most_frequent_words() -> None:
    vocabulary = Vocabulary(["b b a", "A c, it's"], 3)
    assert list(vocabulary.index) == ["a", "b", "c"]
    assert vocabulary.encode("C? zebra B!").tolist() == [vocabulary.index["c"], UNKNOWN, vocabulary.index["b"]]
    assert len(vocabulary.encode("...")) == 0


@settings(max_examples=50)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=40), st.integers(0, 99))
def test_shuffling_gives_every_text_to_another_user(users: list[int], seed: int) -> None:
    named = np.array([f"u{user}" for user in users], dtype=object)
    if 2 * np.bincount(users).max() > len(users):
        with pytest.raises(DataError, match="shuffle_reviews"):
            of_other_users(named, seed)
        return
    order = of_other_users(named, seed)
    assert sorted(order.tolist()) == list(range(len(users)))
    assert (named[order] != named).all()


def test_the_shuffle_option_moves_texts_only() -> None:
    rows = canaries([("a", "x", 1), ("b", "x", 2), ("a", "y", 3), ("b", "y", 4)], train_share=1)
    plain, moved = (Library(rows, rows, TextSettings(shuffle_reviews=on), seed=1) for on in (False, True))
    assert sorted(map(tuple, plain.words)) == sorted(map(tuple, moved.words))
    own_texts = {user: {tuple(plain.words[k]) for k in (0, 1, 2, 3) if rows["user_id"][k] == user} for user in "ab"}
    assert all(tuple(moved.words[k]) not in own_texts[rows["user_id"][k]] for k in range(4))


VOCABULARY = Vocabulary(["good bad unseen"], 10)
VECTORS = {"good": [1.0, 2.0], "bad": [-1.0, 0.5]}


def write_vectors(folder: Path, kind: str) -> Path:
    lines = [f"{word} {' '.join(map(str, values))}" for word, values in VECTORS.items()] + ["other 9 9"]
    if kind == "npy":
        np.save(folder / "v.npy", np.array([*VECTORS.values(), [9, 9]], dtype=np.float64))
        (folder / "v.txt").write_text("good\nbad\nother\n")
        return folder / "v.npy"
    path = folder / "v.vec"
    path.write_text("\n".join((["3 2"] if kind == "word2vec" else []) + lines) + "\n")
    return path


@pytest.mark.parametrize("kind", ["glove", "word2vec", "npy"])
def test_pretrained_vectors_are_read(kind: str, tmp_path: Path) -> None:
    text = TextSettings(word_dim=2, word_vectors=str(write_vectors(tmp_path, kind)))
    matrix, given_words = word_matrix(text, VOCABULARY, seed=0)
    assert given_words == 2
    for word, values in VECTORS.items():
        assert matrix[VOCABULARY.index[word]].tolist() == values
    assert matrix[:2].abs().sum() == 0
    assert matrix[VOCABULARY.index["unseen"]].abs().sum() > 0


@pytest.mark.parametrize(
    ("content", "message"),
    [("good 1 2 3\nbad 1 2 3\n", "line 1 has 3 numbers"), ("good 1\nbad 1\n", "line 2 has 1"), ("bad 1 x\n", "line 1")],
)
def test_bad_vectors_are_named(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_vectors(path, 2, VOCABULARY)


def test_a_matrix_without_its_words_or_of_another_shape_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.zeros((2, 2)))
    with pytest.raises(DataError, match=r"v\.txt"):
        read_vectors(tmp_path / "v.npy", 2, VOCABULARY)
    (tmp_path / "v.txt").write_text("good\n")
    with pytest.raises(DataError, match=r"\(2, 2\)"):
        read_vectors(tmp_path / "v.npy", 2, VOCABULARY)
    with pytest.raises(DataError, match="no file"):
        read_vectors(tmp_path / "absent.txt", 2, VOCABULARY)
