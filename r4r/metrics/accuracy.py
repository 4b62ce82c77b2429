"""Share of predictions that hit the rating."""

import numpy as np

from r4r.metrics.rating_metric import RatingMetric
from r4r.scale import Scale


class Accuracy(RatingMetric):
    """A prediction hits if the scale's value nearest to it is the true rating."""

    title = "accuracy"
    higher_is_better = True

    def of(self, truth: np.ndarray, predicted: np.ndarray, scale: Scale) -> np.ndarray:
        return (scale.places(predicted) == scale.places(truth)).astype(float)
