"""The review-based raters: DeepCoNN, NARRE and DAML."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from review_worlds import METHODS, small, talk
from torch import nn

from r4r.configuration.checks import validate
from r4r.configuration.construct import construct
from r4r.errors import DataError, ModelError
from r4r.methods.daml import nearness
from r4r.methods.mf import MF
from r4r.methods.mf import Batches as MFBatches
from r4r.methods.review_documents import PAD, Library, Targets, word_matrix
from r4r.methods.review_rater import Batches, Known, ReviewMethod, ReviewRater
from r4r.methods.word_convolution import CHUNK_WORDS, WordConvolution
from r4r.rows import PREDICTIONS, conform
from r4r.run import run
from r4r.stages.stage import Job
from r4r.store.artifact import Store

CONF = Path(__file__).parent.parent / "conf"


def train_of(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["split"] == "train"]


def fresh(method: ReviewMethod, rows: pd.DataFrame, seed: int = 0) -> tuple[ReviewRater, Targets]:
    """An untrained model and the train rows as it sees them."""
    torch.manual_seed(seed)
    library = Library(rows, train_of(rows), method.text, seed)
    vectors, _ = word_matrix(method.text, library.vocabulary, seed)
    return method.network(Known(len(library.users), len(library.items), 3.0, vectors)), Targets(library, train_of(rows))


def predict(method: ReviewMethod, rows: pd.DataFrame, wanted: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    table, _ = method.predict(rows, train_of(rows), wanted, seed)
    return table


# the convolution, against PyTorch's own


@settings(max_examples=40)
@given(st.integers(1, 5), st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(0, 999))
def test_lookup_convolution_is_a_convolution(width: int, lengths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    vectors = nn.Embedding(7, 4, padding_idx=PAD)
    mine = WordConvolution(4, 3, width)
    nn.init.normal_(mine.bias)
    words = torch.zeros(len(lengths), max([1, *lengths]), dtype=torch.long)
    for row, length in zip(words, lengths, strict=True):
        row[:length] = torch.randint(2, 7, (length,))
    real = (words != PAD)[:, None]

    def gradients(out: torch.Tensor) -> list[torch.Tensor]:
        weigh = torch.arange(1.0, out.numel() + 1).reshape(out.shape)
        return list(torch.autograd.grad((out * weigh).sum(), [vectors.weight, mine.weight, mine.bias]))

    sides = ((width - 1) // 2, width - 1 - (width - 1) // 2)
    embedded = nn.functional.pad(vectors(words).transpose(1, 2), sides)
    plain = nn.functional.conv1d(embedded, mine.weight.permute(2, 1, 0), mine.bias)
    torch.testing.assert_close(mine(words, vectors), plain.transpose(1, 2))
    pooled = (plain.relu() * real).amax(2)
    torch.testing.assert_close(mine.largest(words, vectors), pooled)
    for ours, theirs in zip(gradients(mine.largest(words, vectors)), gradients(_winner(plain, real)), strict=True):
        torch.testing.assert_close(ours, theirs)


def _winner(plain: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Max-pooling whose gradient goes to the first of equal values, not shared among them as amax does."""
    best = plain.masked_fill(~real, -torch.inf).max(2).values
    return torch.where(real.any(2), best.relu(), 0.0)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    vectors, mine = nn.Embedding(50, 4, padding_idx=PAD), WordConvolution(4, 3, 3)
    words = torch.randint(2, 50, (30, 20)) * (torch.arange(20) < torch.randint(0, 21, (30, 1)))
    assert words.numel() < CHUNK_WORDS
    whole = mine.largest(words, vectors)
    monkeypatch.setattr("r4r.methods.word_convolution.CHUNK_WORDS", 32)
    assert torch.equal(mine.largest(words, vectors), whole)


def test_nearness_is_one_over_one_plus_distance() -> None:
    user, item = torch.randn(2, 4, 3), torch.randn(2, 5, 3)
    torch.testing.assert_close(nearness(user, item), 1 / (1 + torch.cdist(user, item)))


# the models


@pytest.mark.parametrize("name", METHODS)
def test_gradient_reaches_every_parameter(name: str) -> None:
    method = small(name)
    model, targets = fresh(method, talk())
    loss = model.loss(method.collate(targets, range(len(targets))))
    loss.backward()
    for place, parameter in model.named_parameters():
        assert parameter.grad is not None, place
        assert parameter.grad.abs().sum() > 0, place


@pytest.mark.parametrize("name", METHODS)
def test_32_rows_can_be_learnt_by_heart(name: str) -> None:
    method = small(name)
    model, targets = fresh(method, talk(each=5))
    batch = method.collate(targets, range(32))
    assert len(batch.rating) == 32
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    assert batch.rating.var() > 1


@pytest.mark.parametrize("name", METHODS)
def test_reviews_alone_tell_what_ids_cannot(name: str) -> None:
    """All ids unknown: what is left to learn the ratings from is the text."""
    rows = talk(each=5)
    method = small(name)
    model, targets = fresh(method, rows)
    batch = method.collate(targets, range(32))
    batch = batch._replace(user=torch.zeros_like(batch.user), item=torch.zeros_like(batch.item))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    first = model.loss(batch).item()
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * first


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=10)
@given(seed=st.integers(0, 999))
def test_the_order_of_a_batch_changes_nothing(name: str, seed: int) -> None:
    method = small(name)
    model, targets = fresh(method, talk(seed=seed % 5), seed)
    order = np.random.default_rng(seed).permutation(len(targets)).tolist()
    with torch.no_grad():
        straight = model(method.collate(targets, range(len(targets))))
        mixed = model(method.collate(targets, order))
        alone = torch.cat([model(method.collate(targets, [k])) for k in order[:3]])
    torch.testing.assert_close(mixed, straight[order])
    torch.testing.assert_close(alone, mixed[:3])


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=10)
@given(more=st.integers(1, 9), seed=st.integers(0, 999))
def test_padding_changes_nothing(name: str, more: int, seed: int) -> None:
    method = small(name)
    model, targets = fresh(method, talk(seed=seed % 5), seed)
    batch = method.collate(targets, range(len(targets)))
    ids = ("user", "item", "rating")
    wider = {f: nn.functional.pad(getattr(batch, f), (0, more)) for f in batch._fields if f not in ids}
    for training in (True, False):
        model.train(training)
        torch.testing.assert_close(model(batch._replace(**wider)), model(batch))


def test_attention_is_over_real_reviews() -> None:
    method = small("narre")
    model, targets = fresh(method, talk())
    batch = method.collate(targets, range(len(targets)))
    side: Any = model.user_side
    features = torch.randn(*batch.user_reviews.shape, 6)
    real = batch.user_reviews > 0
    weights = side.weights(features, batch.user_wrote_on, real)
    assert (weights[~real] == 0).all()
    torch.testing.assert_close(weights.sum(1), real.any(1).float())
    assert (~real.any(1)).any()
    assert (weights[real.sum(1) > 2].std(1) > 0).all()


@pytest.mark.parametrize("name", METHODS)
def test_nothing_known_gives_a_number_and_a_gradient(name: str) -> None:
    rows = talk().assign(review="...")  # no words at all
    wanted = rows.iloc[:2].assign(user_id="nobody", item_id="nothing", row_id=[900, 901], timestamp=-1)
    method = small(name)
    table = conform(predict(method, rows, pd.concat([wanted, rows])), PREDICTIONS, name)
    assert table["mean"].between(1, 5).all()
    model, targets = fresh(method, rows)
    model.loss(method.collate(targets, [0, 1])).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_an_unknown_pair_is_rated_without_ids(name: str) -> None:
    model, targets = fresh(small(name), talk())
    assert all(table.weight[0].abs().sum() == 0 for table in (model.user_bias, model.item_bias))
    assert model.user_bias.weight.shape[0] == len(targets.library.users) + 1


# the method


@pytest.mark.parametrize("name", METHODS)
def test_equal_seeds_give_equal_predictions(name: str) -> None:
    rows, method = talk(), small(name, dropout=0.3)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = predict(method, rows, rows, seed=1)
    assert torch.equal(torch.rand(1), expected)
    pd.testing.assert_frame_equal(first, predict(method, rows, rows, seed=1))
    assert not np.allclose(first["mean"], predict(method, rows, rows, seed=2)["mean"])


@pytest.mark.parametrize("name", METHODS)
def test_test_ratings_and_texts_are_not_seen(name: str) -> None:
    rows, method = talk(), small(name)
    is_test = rows["split"] == "test"
    blind = rows.assign(rating=rows["rating"].where(~is_test, 1.0), review=rows["review"].where(~is_test, "hidden"))
    first, second = (predict(method, table, table[is_test]) for table in (rows, blind))
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("option", ["include_target_review", "shuffle_reviews"])
def test_the_controls_change_what_is_learnt(name: str, option: str) -> None:
    rows = talk()
    plain, changed = (predict(small(name, text={option: on}), rows, rows) for on in (False, True))
    assert not np.allclose(plain["mean"], changed["mean"])
    assert not set(plain["label"]) & set(changed["label"])  # a table would take the control for the method


def test_the_leak_pays_in_training_and_not_in_test() -> None:
    """Each text says its rating: read, it is learnt at once, and where it cannot be read nothing is gained."""
    rows = talk(users=15, items=10, each=8)
    rows["review"] = [f"rated{int(rating)}" for rating in rows["rating"]]
    train, test = train_of(rows), rows[rows["split"] == "test"]
    errors = {}
    for leak in (False, True):
        method = small("deepconn", document_words=1)
        model, _ = fresh(method, rows)
        targets = Targets(Library(rows, train, method.text, 0), train, own_review=leak)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(40):
            for batch in Batches(targets, method.collate, 48, 0):
                optimizer.zero_grad()
                model.loss(batch).backward()
                optimizer.step()
        unread = Targets(targets.library, test)
        with torch.no_grad():
            for split, part in (("train", targets), ("test", unread)):
                batch = method.collate(part, range(len(part)))
                errors[leak, split] = float((model(batch).clamp(1, 5) - batch.rating).square().mean().sqrt())
    assert errors[True, "train"] < 0.3 < errors[False, "train"]
    assert errors[True, "test"] > 1.0


def test_the_best_epoch_is_kept() -> None:
    rows = talk(users=20)
    valid = rows[rows["split"] == "valid"]
    method = small("deepconn", training={"lr": 0.1, "epochs": 12, "patience": 3})
    table, facts = method.predict(rows, train_of(rows), valid, 0)
    error = np.sqrt(((table["mean"].to_numpy() - valid["rating"].to_numpy()) ** 2).mean())
    assert error == pytest.approx(facts["valid_rmse"], abs=1e-4)
    assert facts["best_epoch"] < facts["epochs"] <= facts["best_epoch"] + 3


@pytest.mark.parametrize("split", ["train", "valid"])
def test_an_empty_split_is_refused(split: str) -> None:
    rows = talk()
    with pytest.raises(DataError, match=f"the {split} split is empty"):
        predict(small("narre"), rows[rows["split"] != split], rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said() -> None:
    rows = talk()
    with pytest.raises(ModelError, match="no CUDA device"):
        small("narre").predict(rows, train_of(rows), rows, 0, accelerator="gpu")


def test_ctrl_c_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: object) -> None:
        raise KeyboardInterrupt

    rows = talk()
    monkeypatch.setattr(Batches, "__iter__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(small("daml"), rows, rows)
    monkeypatch.setattr(MFBatches, "__iter__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        MF(max_epochs=1).predict(rows, rows, seed=0)


# as a job

TINY = {
    "deepconn": ["filters=4", "document_words=30"],
    "narre": ["filters=4", "review_words=30", "max_reviews=5"],
    "daml": ["filters=4", "document_words=30"],
}


NOISY = {
    "deepconn": ["document_words=200", "factors=8", "filters=64", "training.lr=0.003"],
    "narre": ["max_reviews=8", "review_words=60", "dim=16", "attention_dim=16", "filters=64", "training.lr=0.003"],
    "daml": ["document_words=100", "dim=8", "factors=2", "filters=32", "training.lr=0.004"],
}


def composed(folder: Path, overrides: list[str]) -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        places = [f"paths.outputs={folder}", "logger=none", "trainer=cpu"]
        return validate(compose("config", [*overrides, *places]))


def test_a_job_scores_them_side_by_side(tmp_path: Path) -> None:
    overrides = ["method=deepconn", "~references.mf"]
    for name in METHODS:
        where = "method" if name == "deepconn" else f"references.{name}"
        overrides += [] if name == "deepconn" else [f"+method@references.{name}={name}"]
        overrides += [f"{where}.{setting}" for setting in (*TINY[name], "text.word_dim=8", "training.epochs=1")]
    record = run(composed(tmp_path, overrides), tmp_path)
    labels = [row["label"] for row in record["metrics"]]
    assert labels[0] == "DeepCoNN"
    assert {"NARRE", "DAML", "User+item bias"} < set(labels)
    assert all(np.isfinite(row["rmse"]) for row in record["metrics"])


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_they_beat_the_bias_where_the_texts_tell_more_than_the_ratings(name: str, tmp_path: Path) -> None:
    settings = [*NOISY[name], "dropout=0.3", "text.word_dim=32"]
    settings += [f"training.{setting}" for setting in ("epochs=6", "batch_size=64", "weight_decay=0.0002")]
    overrides = ["dataset=simulated_noisy", "~references.mf", f"method={name}"]
    record = run(composed(tmp_path, [*overrides, *(f"method.{setting}" for setting in settings)]), tmp_path)
    (bias,) = (entry for entry in record["comparisons"] if entry["label"] == "User+item bias")
    assert bias["rmse"]["difference"] < 0
    assert bias["mae"]["difference"] < 0
    assert bias["mae"]["p"] < 0.05


def test_a_setting_that_changes_the_output_changes_the_key(tmp_path: Path) -> None:
    base = composed(tmp_path, ["method=narre"])

    def key(**changes: Any) -> str:
        config = base.model_copy(update=changes)
        return construct(config.method, "method").stages(Job(config, Store(tmp_path))).key

    def setting(group: str, **values: Any) -> dict[str, Any]:
        return {**base.method, group: {**base.method[group], **values}}

    history = base.dataset.history.model_copy(update={"source": "train+valid"})
    keys = [
        key(),
        key(seed=1),
        key(method={**base.method, "filters": 9}),
        key(method=setting("text", shuffle_reviews=True)),
        key(method=setting("training", lr=0.1)),
        key(dataset=base.dataset.model_copy(update={"history": history})),
    ]
    assert len(set(keys)) == len(keys)
    assert key(trainer=base.trainer.model_copy(update={"threads": 1})) == keys[0]
