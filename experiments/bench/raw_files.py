"""Raw files of any size in the Amazon 2014 layout: `python experiments/bench/raw_files.py FOLDER REVIEWS`.

Users and items are unequally active, as in real data; texts have about 500 characters. One seed, one pair of files.
"""

import argparse
import gzip
import json
from pathlib import Path

import numpy as np

REVIEWS, META = "reviews.json.gz", "meta.json.gz"
CHUNK = 50_000
WORDS = ["the", "a", "it", "is", "was", "sound", "string", "album", "warm", "cheap", "solid", "great", "never", "again"]


def write_raw_files(folder: Path, reviews: int, seed: int = 0) -> None:
    """Write REVIEWS and META into `folder`: about one user in eight reviews and one item in fifteen."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    users, items = max(8, reviews // 8), max(8, reviews // 15)
    sentences = [" ".join(rng.choice(WORDS, rng.integers(5, 25))) + ". " for _ in range(5_000)]
    with gzip.open(folder / REVIEWS, "wt", encoding="utf-8", compresslevel=1) as file:
        for done in range(0, reviews, CHUNK):
            n = min(CHUNK, reviews - done)
            # The square of a uniform draw: low numbers are far more active than high ones.
            who = (users * rng.random(n) ** 2).astype(int)
            what = (items * rng.random(n) ** 2).astype(int)
            stars = rng.choice(5, n, p=[0.05, 0.05, 0.1, 0.25, 0.55]) + 1
            times = rng.integers(1_200_000_000, 1_400_000_000, n)
            texts = rng.integers(0, len(sentences), (n, 7))
            file.writelines(
                json.dumps(
                    {
                        "reviewerID": f"A{user:011d}",
                        "asin": f"B{item:09d}",
                        "helpful": [0, 0],
                        "reviewText": "".join(sentences[s] for s in chosen),
                        "overall": float(star),
                        "summary": "a summary",
                        "unixReviewTime": int(moment),
                    }
                )
                + "\n"
                for user, item, star, moment, chosen in zip(who, what, stars, times, texts, strict=True)
            )
    with gzip.open(folder / META, "wt", encoding="utf-8", compresslevel=1) as file:
        file.writelines(f"{ {'asin': f'B{item:09d}', 'title': f'Item {item}'}!r}\n" for item in range(items))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("reviews", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_raw_files(arguments.folder, arguments.reviews, arguments.seed)
