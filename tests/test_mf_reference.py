"""Matrix factorisation against an independent implementation (cornac), on real reviews.

Same model, objective and number of epochs; initial draws and batch order are each library's own. Needs the `reference`
extra and, below R4R_DATA, the Musical Instruments reviews.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from r4r.configuration.checks import validate
from r4r.files import conf_dir
from r4r.methods.mf import MF
from r4r.stages.split import all_rows
from r4r.stages.stage import Job
from r4r.store.artifact import Store

cornac = pytest.importorskip("cornac", reason="the reference extra is not installed")
DATA = Path(os.environ.get("R4R_DATA", "absent"))
REVIEWS = DATA / "amazon2014/musical_instruments/reviews_Musical_Instruments_5.json.gz"
SEEDS = (1, 2, 3)
DIM, LR, DECAY, BATCH = 16, 0.01, 1e-4, 1024


def errors(values: np.ndarray, truth: pd.Series) -> np.ndarray:
    """MAE and RMSE of clipped ratings."""
    gap = np.clip(values, 1, 5) - truth.to_numpy()
    return np.array([np.abs(gap).mean(), np.sqrt((gap**2).mean())])


def reference(train: pd.DataFrame, test: pd.DataFrame, epochs: int, seed: int) -> np.ndarray:
    known = cornac.data.Dataset.from_uir(list(zip(train["user_id"], train["item_id"], train["rating"], strict=True)))
    generator = np.random.default_rng(seed)
    start = {
        name: generator.normal(0, 0.1, (count, DIM)).astype(np.float32)
        for name, count in (("U", known.num_users), ("V", known.num_items))
    }
    model = cornac.models.MF(
        k=DIM,
        backend="pytorch",
        optimizer="adam",
        max_iter=epochs,
        batch_size=BATCH,
        learning_rate=LR,
        lambda_reg=DECAY * BATCH,  # its loss is a batch's sum, ours the mean
        use_bias=True,
        init_params=start,
        seed=seed,
    ).fit(known)
    pairs = zip(test["user_id"], test["item_id"], strict=True)
    return np.array([float(model.score(known.uid_map[user], known.iid_map[item])) for user, item in pairs])


@pytest.mark.skipif(not REVIEWS.is_file(), reason="no Musical Instruments reviews below R4R_DATA")
def test_mf_errs_as_an_independent_library_does(tmp_path: Path) -> None:
    with initialize_config_dir(str(conf_dir().absolute()), version_base="1.3"):
        config = validate(compose("config", ["dataset=musical_instruments", "method=mf", f"paths.outputs={tmp_path}"]))
    rows = all_rows(Job(config, Store(config.paths.artifacts)))
    train, test = rows[rows["split"] == "train"], rows[rows["split"] == "test"]
    ours, theirs = [], []
    for seed in SEEDS:
        method = MF(dim=DIM, lr=LR, weight_decay=DECAY, batch_size=BATCH)
        table, facts = method.predict(rows, test, seed)
        ours.append(errors(table["mean"].to_numpy(), test["rating"]))
        theirs.append(errors(reference(train, test, facts["best_epoch"], seed), test["rating"]))
    np.testing.assert_allclose(np.mean(ours, axis=0), np.mean(theirs, axis=0), rtol=0.01)
