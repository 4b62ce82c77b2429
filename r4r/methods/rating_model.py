"""What the trained baselines are: models of a rating in stars."""

import math
from typing import Any

import torch
from torch import nn


class RatingModel(nn.Module):
    """A model of ratings in stars, 1 to 5 (`Scale.to_stars`), so that one learning rate suits the ratings of any scale.

    `r4r.methods.rating_module.fit` trains it.

    Args:
        star: rating points of the data set's scale that a star stands for.

    Attributes:
        best_rmse, best_epoch: of the validation rows, the RMSE in points of the scale; epochs count from 0.
    """

    def __init__(self, star: float = 1.0) -> None:
        super().__init__()
        self.star = star
        self.best_rmse, self.best_epoch = math.inf, -1

    def rated(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Ratings in stars, as the model has them, not clipped, and as they are: (batch,) each."""
        raise NotImplementedError

    def loss(self, batch: Any) -> torch.Tensor:
        """Mean squared error in stars, a scalar."""
        return nn.functional.mse_loss(*self.rated(batch))

    def configure_optimizers(self) -> Any:
        """The optimizer, and its schedule if any, in the form that a LightningModule gives them in."""
        raise NotImplementedError
