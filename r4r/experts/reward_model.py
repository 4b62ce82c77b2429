"""The reward model: the predictor's prompt with the target's own review in the placeholder (paper 3.4).

It learns to tell a rating from a review on pairs of its own; a reason that lets it tell the rating as well as the
review does is a reason that agrees with the review.
"""

from r4r.experts.predictor import Predictor


class RewardModel(Predictor):
    """Reads what the predictor reads, with a review, a candidate reason or nothing in the placeholder."""
