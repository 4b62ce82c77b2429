"""Small review-based raters and small sets of reviews, for their tests."""

from typing import Any

import numpy as np
import pandas as pd

from r4r.methods.daml import DAML
from r4r.methods.deepconn import DeepCoNN
from r4r.methods.narre import NARRE
from r4r.methods.review_documents import TextSettings
from r4r.methods.review_rater import ReviewMethod, TrainingSettings

METHODS = ("deepconn", "narre", "daml")
LIKES, HATES = ("love", "great", "fine"), ("hate", "awful", "poor")


def small(name: str, **changes: Any) -> ReviewMethod:
    """The method at a size for tests, without dropout or weight decay. `training` and `text` take single settings."""
    training = TrainingSettings(
        **{"lr": 0.01, "weight_decay": 0.0, "epochs": 2, "batch_size": 16} | changes.pop("training", {})
    )
    text = TextSettings(**{"word_dim": 8} | changes.pop("text", {}))
    shared: dict[str, Any] = {"filters": 6, "dropout": 0.0, "text": text, "training": training}
    if name == "deepconn":
        return DeepCoNN(**shared | {"document_words": 40, "feature_dim": 5, "factors": 3} | changes)
    if name == "narre":
        sizes = {"max_reviews": 40, "review_words": 40, "dim": 5, "attention_dim": 4}
        return NARRE(**shared | sizes | changes)
    return DAML(**shared | {"document_words": 40, "dim": 5, "factors": 3} | changes)


def talk(users: int = 8, items: int = 6, each: int = 6, seed: int = 0) -> pd.DataFrame:
    """Reviews in order of time: the last fifth is valid and test. A text says whether its rating is above 3."""
    generator = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        for item in generator.permutation(items)[:each]:
            rating = float(generator.integers(1, 6))
            words = generator.choice(LIKES if rating > 3 else HATES, size=generator.integers(1, 6))
            rows.append((f"u{user}", f"i{item}", rating, " ".join([*words, f"about{item}"])))
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "review"])
    table = table.sample(frac=1, random_state=seed).reset_index(drop=True)
    cut = int(0.8 * len(table))
    table["split"] = ["train" if k < cut else ("valid", "test")[k % 2] for k in range(len(table))]
    return table.assign(row_id=range(len(table)), title="t", timestamp=range(len(table)))
