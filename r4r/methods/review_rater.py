"""What the review-based raters share: the rating head's biases, batches, training and the stage."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import nn

from r4r.configuration.schema import Section
from r4r.errors import DataError, ModelError
from r4r.files import fingerprint
from r4r.methods import point_predictions
from r4r.methods.baseline import Baseline, Given
from r4r.methods.rating_model import RatingModel
from r4r.methods.review_documents import PAD, Library, Targets, TextSettings, word_matrix
from r4r.progress import bar
from r4r.scale import PAPER, Scale


class TrainingSettings(Section):
    lr: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-3, ge=0)  # L2, inside Adam
    lr_step: int = Field(5, ge=1)  # epochs between two cuts of the learning rate
    lr_factor: float = Field(0.8, gt=0, le=1)
    epochs: int = Field(20, ge=1)
    patience: int = Field(5, ge=1)  # epochs without a better validation RMSE
    batch_size: int = Field(128, ge=1)


class Known(NamedTuple):
    """What train gives a model: counts of users and items, mean rating in stars, word vectors (indices, word_dim), and
    the rating points that a star stands for."""

    users: int
    items: int
    mean: float
    vectors: torch.Tensor
    star: float = 1.0


def id_table(count: int, dim: int, sd: float) -> nn.Embedding:
    """Vectors of users or items; index 0, one that train does not know, is and stays zero."""
    table = nn.Embedding(count + 1, dim, padding_idx=0)
    nn.init.normal_(table.weight, 0.0, sd)
    with torch.no_grad():
        table.weight[0] = 0.0
    return table


class ReviewRater(RatingModel):
    """A rating from ids and reviews: mean + b_u + b_i + what a subclass's `match` says, trained by squared error."""

    def __init__(self, known: Known, training: TrainingSettings):
        super().__init__(known.star)
        self.training_settings, self.mean = training, known.mean
        self.words = nn.Embedding.from_pretrained(known.vectors.clone(), freeze=False, padding_idx=PAD)
        self.user_bias, self.item_bias = id_table(known.users, 1, 0.0), id_table(known.items, 1, 0.0)

    def match(self, batch: Any) -> torch.Tensor:
        """What the model adds to mean and biases, (batch,)."""
        raise NotImplementedError

    def forward(self, batch: Any) -> torch.Tensor:
        """Ratings in stars, (batch,), not clipped."""
        biases = self.user_bias(batch.user).squeeze(1) + self.item_bias(batch.item).squeeze(1)
        return self.mean + biases + self.match(batch)

    def configure_optimizers(self) -> Any:
        s = self.training_settings
        adam = torch.optim.Adam(self.parameters(), lr=s.lr, weight_decay=s.weight_decay, fused=True)
        return [adam], [torch.optim.lr_scheduler.StepLR(adam, s.lr_step, s.lr_factor)]

    def rated(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return self(batch), batch.rating


class Batches(torch.utils.data.IterableDataset[Any]):
    """Batches of targets: shuffled anew each epoch from the seed, or in order where seed is None."""

    def __init__(self, rows: Targets, collate: Callable[[Targets, Sequence[int]], Any], size: int, seed: int | None):
        self.rows, self.collate, self.size, self.seed, self.epoch = rows, collate, size, seed, 0

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    def __iter__(self) -> Iterator[Any]:
        order = np.arange(len(self.rows))
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
            self.epoch += 1
        for start in range(0, len(order), self.size):
            yield self.collate(self.rows, order[start : start + self.size].tolist())


class ReviewMethod(Baseline):
    """Fitted on train, the epoch of the best validation RMSE kept. Subclasses give the model and its batches.

    On CPU equal seeds give equal predictions; a GPU adds up gradients in an order of its own.
    """

    version = 3
    takes = "minutes to an hour on CPU"
    seeded = reads_past = True
    title: ClassVar[str]

    def __init__(self, name: str, text: TextSettings, training: TrainingSettings, model: dict[str, Any]):
        self.name, self.text, self.training, self.model = name, text, training, model

    @property
    def label(self) -> str:
        """In tables. A control's differs, so that none is taken for the method itself."""
        controls = {
            "target review read": self.text.include_target_review,
            "reviews shuffled": self.text.shuffle_reviews,
        }
        return ", ".join([self.title, *(words for words, on in controls.items() if on)])

    def network(self, known: Known) -> ReviewRater:
        """A fresh model."""
        raise NotImplementedError

    def collate(self, rows: Targets, chosen: Sequence[int]) -> Any:
        """A batch of some targets: a named tuple of tensors with user, item and rating (batch,)."""
        raise NotImplementedError

    def identity(self) -> dict[str, Any]:
        """
        Raises:
            DataError: there is no file of word vectors where the settings name one.
        """
        text = self.text.model_dump(mode="json")
        if self.text.word_vectors:
            path = Path(self.text.word_vectors).expanduser()
            if not path.is_file():
                raise DataError(f"method {self.name}: text.word_vectors names {path}, and there is no such file")
            text["word_vectors"] = fingerprint(path)
        return super().identity() | {"text": text}

    def predictions(self, given: Given) -> tuple[pd.DataFrame, dict[str, Any]]:
        settings = given.seed, given.accelerator, given.log, given.scale
        return self.predict(given.rows, given.past, given.wanted, *settings)

    def predict(
        self,
        rows: pd.DataFrame,
        past: pd.DataFrame,
        wanted: pd.DataFrame,
        seed: int,
        accelerator: str = "cpu",
        log: Callable[[dict[str, float]], None] = lambda metrics: None,
        scale: Scale = PAPER,
    ) -> tuple[pd.DataFrame, dict[str, Any]]:
        """rows.PREDICTIONS of the wanted rows, and facts for the manifest.

        Args:
            rows: the whole split (rows.REVIEWS).
            past: those of them that may appear in a history.
            scale: of the ratings.

        Raises:
            DataError: train or valid is empty, or the word vectors cannot be read.
            ModelError: a GPU is asked for and there is none.
        """
        rows, wanted = (
            each.assign(rating=scale.to_stars(each["rating"].to_numpy(dtype=float))) for each in (rows, wanted)
        )
        train, valid = rows[rows["split"] == "train"], rows[rows["split"] == "valid"]
        for split, part in (("train", train), ("valid", valid)):
            if part.empty:
                raise DataError(
                    f"{self.label}: the {split} split is empty; enlarge the data set or change dataset.prepare"
                )
        if accelerator == "gpu" and not torch.cuda.is_available():
            raise ModelError(f"{self.label}: trainer.accelerator=gpu, but there is no CUDA device; use auto or cpu")
        device = torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")
        library = Library(rows, past, self.text, seed)
        with torch.random.fork_rng(devices=[0] if device.type == "cuda" else []):
            torch.manual_seed(seed)  # initial weights and dropout
            vectors, given = word_matrix(self.text, library.vocabulary, seed)
            known = Known(len(library.users), len(library.items), float(train["rating"].mean()), vectors, scale.star)
            model = self.network(known)
            size = self.training.batch_size
            learn = Batches(Targets(library, train, self.text.include_target_review), self.collate, size, seed)
            check = Batches(Targets(library, valid), self.collate, size, None)
            facts = _fit(model, learn, check, device, self.title, log)
        model.to(device).eval()
        with torch.no_grad():
            answers = [
                model(type(batch)(*(column.to(device) for column in batch))).cpu()
                for batch in Batches(Targets(library, wanted), self.collate, size, None)
            ]
        values = scale.from_stars(torch.cat(answers).double().numpy() if answers else np.empty(0))
        facts |= {"vocabulary": len(library.vocabulary), "pretrained_words": given}
        return point_predictions(wanted["row_id"], self.label, values, scale), facts


def _fit(
    model: ReviewRater,
    train: Batches,
    valid: Batches,
    device: torch.device,
    title: str,
    log: Callable[[dict[str, float]], None],
) -> dict[str, Any]:
    """Train the model.

    Returns:
        Facts for the manifest: epochs, best epoch and its validation RMSE, parameters, seconds an epoch.
    """
    from r4r.methods.rating_module import Watch, fit  # Lightning takes seconds to import

    settings, started = model.training_settings, time.monotonic()
    with bar(f"train {title}", settings.epochs * len(train)) as advance:
        watch = Watch(advance, title, log)
        fit(model, train, valid, settings.epochs, settings.patience, "gpu" if device.type == "cuda" else "cpu", [watch])
    return {
        "best_epoch": model.best_epoch + 1,
        "valid_rmse": model.best_rmse,
        "epochs": train.epoch,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "epoch_s": round((time.monotonic() - started) / max(1, train.epoch), 2),
    }
