"""Pretrain the small base model of the simulated world: `python experiments/world_model/pretrain.py --out DIR`.

The state is saved after every chapter (a hundred thousand tokens); the same command goes on from there after a kill.
"""

import argparse
import json
import os
import random
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import corpus
import torch
import vocabulary
from model import Model, Muon
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

# tokens seen -> shares of the families from there on: short rows first, then reviews, then several notes and pages
STAGES: dict[int, dict[str, float]] = {
    0: {"drill_copy": 3, "drill_both": 4, "drill_find": 2, "drill_noun": 2.5, "drill_clause": 4},
    60_000: {
        "drill_copy": 3, "drill_both": 4, "drill_find": 2, "drill_noun": 2.5, "drill_clause": 4, "drill_suit": 3,
    },
    150_000: {
        "drill_copy": 1.5, "drill_both": 2, "drill_find": 0.7, "drill_noun": 2.5, "drill_clause": 5, "drill_suit": 2,
        "list": 0.8, "both": 0.8, "pairs": 0.3, "numbers": 0.5, "nouns": 0.4, "review": 6, "suit": 1.5, "weigh": 0.4,
    },
    400_000: {
        "drill_copy": 1, "drill_both": 1.5, "drill_find": 0.5, "drill_noun": 1.5, "drill_clause": 4, "drill_suit": 2,
        "list": 0.8, "both": 0.8, "pairs": 0.3, "numbers": 0.5, "nouns": 0.3, "review": 6, "suit": 2, "weigh": 0.5,
        "person": 1.5, "record": 1.5, "meeting": 2.5, "page": 0.3,
    },
    2_000_000: {
        "drill_copy": 0.5, "drill_both": 1, "drill_find": 0.3, "drill_noun": 0.7, "drill_clause": 2, "drill_suit": 1,
        "list": 0.8, "both": 0.8, "pairs": 0.3, "numbers": 0.5, "nouns": 0.3, "review": 5, "suit": 2, "weigh": 0.7,
        "person": 2, "record": 2, "meeting": 5, "page": 0.7,
    },
    7_500_000: {
        "drill_copy": 0.3, "drill_both": 0.6, "drill_find": 0.2, "drill_noun": 0.3, "drill_clause": 1.5,
        "drill_suit": 0.7, "list": 0.4, "both": 0.5, "pairs": 0.2, "numbers": 0.4, "nouns": 0.1, "review": 4,
        "suit": 2, "weigh": 1, "person": 2.5, "record": 2.5, "meeting": 9, "page": 0.3,
    },
    11_000_000: {
        "drill_copy": 0.1, "drill_both": 0.2, "drill_find": 0.1, "drill_noun": 0.1, "drill_clause": 0.7,
        "drill_suit": 1, "drill_check": 2, "list": 0.1, "both": 0.1, "pairs": 0.1, "numbers": 0.3, "nouns": 0.1,
        "review": 2.5, "suit": 3, "weigh": 1, "stars": 4, "person": 1, "record": 1, "ledger": 3, "meeting": 6,
        "page": 0.1,
    },
    14_000_000: {
        "drill_copy": 0.1, "drill_both": 0.1, "drill_find": 0.1, "drill_noun": 0.1, "drill_clause": 0.5,
        "drill_suit": 0.5, "drill_check": 1.5, "list": 0.1, "both": 0.1, "pairs": 0.1, "numbers": 0.2, "nouns": 0.1,
        "review": 2, "suit": 1, "weigh": 0.7, "stars": 2, "person": 0.7, "record": 0.7, "ledger": 10, "meeting": 2,
        "page": 0.1,
    },
    15_300_000: {
        "drill_copy": 0.1, "drill_both": 0.1, "drill_find": 0.1, "drill_noun": 0.1, "drill_clause": 0.5,
        "drill_suit": 0.5, "drill_check": 1, "list": 0.1, "both": 0.1, "pairs": 0.1, "numbers": 0.2, "nouns": 0.1,
        "review": 2, "suit": 1, "weigh": 0.7, "stars": 3, "person": 0.7, "record": 0.7, "ledger": 8, "meeting": 5,
        "page": 0.1,
    },
    16_200_000: {
        "drill_copy": 0.1, "drill_both": 0.1, "drill_find": 0.1, "drill_noun": 0.1, "drill_clause": 0.5,
        "drill_suit": 0.5, "drill_check": 0.5, "list": 0.1, "both": 0.1, "pairs": 0.1, "numbers": 0.2, "nouns": 0.1,
        "review": 2.5, "suit": 1.5, "weigh": 0.7, "stars": 4, "person": 1, "record": 1, "ledger": 4, "meeting": 7,
        "page": 0.1,
    },
    18_800_000: {
        "drill_copy": 0.1, "drill_both": 0.1, "drill_find": 0.1, "drill_noun": 0.1, "drill_clause": 0.5,
        "drill_suit": 0.5, "drill_check": 0.5, "drill_stars": 5, "list": 0.1, "both": 0.1, "pairs": 0.1,
        "numbers": 0.2, "nouns": 0.1, "review": 2, "suit": 1, "weigh": 0.3, "stars": 5, "person": 0.7, "record": 0.7,
        "ledger": 3, "meeting": 4, "page": 0.1,
    },
    20_500_000: {
        "drill_copy": 0.1, "drill_both": 0.1, "drill_find": 0.1, "drill_noun": 0.1, "drill_clause": 0.3,
        "drill_suit": 0.3, "drill_check": 0.3, "drill_stars": 14, "list": 0.1, "both": 0.1, "pairs": 0.1,
        "numbers": 0.2, "nouns": 0.1, "review": 1, "suit": 1, "weigh": 0.5, "stars": 4, "person": 0.5, "record": 0.5,
        "ledger": 2, "meeting": 2, "page": 0.1,
    },
    21_500_000: {
        "drill_copy": 0.1, "drill_both": 0.1, "drill_find": 0.1, "drill_noun": 0.1, "drill_clause": 0.3,
        "drill_suit": 0.3, "drill_check": 0.3, "drill_stars": 6, "list": 0.1, "both": 0.1, "pairs": 0.1,
        "numbers": 0.2, "nouns": 0.1, "review": 1.5, "suit": 0.5, "weigh": 0.5, "stars": 4, "person": 0.3,
        "record": 0.3, "ledger": 6, "meeting": 4, "page": 0.1,
    },
    22_500_000: {
        "drill_copy": 0.1, "drill_both": 0.1, "drill_find": 0.1, "drill_noun": 0.1, "drill_clause": 0.3,
        "drill_suit": 0.3, "drill_check": 0.3, "drill_stars": 6, "list": 0.1, "both": 0.1, "pairs": 0.1,
        "numbers": 0.2, "nouns": 0.1, "review": 1.5, "suit": 0.5, "weigh": 0.5, "stars": 8, "person": 0.3,
        "record": 0.3, "ledger": 4, "meeting": 4, "page": 0.1,
    },
    24_700_000: {
        "drill_copy": 0.1, "drill_both": 0.1, "drill_find": 0.1, "drill_noun": 0.1, "drill_clause": 0.5,
        "drill_suit": 0.3, "drill_check": 0.7, "drill_stars": 3, "list": 0.1, "both": 0.1, "pairs": 0.1,
        "numbers": 0.2, "nouns": 0.1, "review": 2.5, "suit": 0.5, "weigh": 0.3, "stars": 7, "person": 0.5,
        "record": 0.5, "ledger": 6, "meeting": 6, "page": 0.1,
    },
    28_100_000: {
        "drill_copy": 0.1, "drill_both": 0.1, "drill_find": 0.1, "drill_noun": 0.1, "drill_clause": 0.5,
        "drill_suit": 0.3, "drill_check": 0.5, "drill_liking": 1.5, "drill_stars": 5, "list": 0.1, "both": 0.1,
        "pairs": 0.1, "numbers": 0.2, "nouns": 0.1, "review": 1.5, "suit": 0.5, "weigh": 0.3, "stars": 7, "person": 0.3,
        "record": 0.3, "ledger": 6, "meeting": 7, "page": 0.1,
    },
}  # fmt: skip
NOTES = {0: 3, 1_000_000: 6, 14_000_000: 2, 15_300_000: 5}  # tokens seen -> notes a side at most, from there on
PAGE_WEIGHT, REST_WEIGHT = 0.3, 0.1
REST_SHARE = 0.1  # of a question's tokens that take part in the loss, at REST_WEIGHT / REST_SHARE: saves their logits
WARMUP = 30  # steps
CHAPTER = 100_000  # tokens
LONGEST = 900  # tokens of a row
PROBES = {
    "copying": "drill_copy", "intersection": "drill_both", "polarity": "drill_clause", "questions on a list": "list",
    "questions on a review": "review", "verdict": "suit", "both histories": "meeting",
    "each feature of a record": "drill_check", "each feature, from both histories": "ledger",
    "counts, verdicts and ratings of matches": "drill_stars", "words of liking": "drill_liking",
    "of a match with its notes": "stars",
}  # fmt: skip


def encode(rows: list[corpus.Row], tokenizer: Any) -> list[tuple[str, list[int], list[float]]]:
    """Family, ids and loss weight of each id, for each row that is not too long."""
    out = []
    for row in rows:
        if row.drill:
            texts = [f"<|bos|>{row.page}\n"]
            for question, answer in row.turns:
                texts += [f"{question} =", f" {answer}\n"]
            encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
            parts = [(ids, 1.0 if n and n % 2 == 0 else REST_WEIGHT) for n, ids in enumerate(encoded)]
        elif row.page:
            ids = tokenizer(f"<|bos|>{row.page}<|end|>", add_special_tokens=False)["input_ids"]
            parts = [(ids, PAGE_WEIGHT)]
        else:
            texts = ["<|bos|>"]
            for question, answer in row.turns:
                texts += [f"<|start|>user\n{question}<|end|>\n<|start|>assistant\n", f"{answer}<|end|>"]
                texts.append("\n")
            encoded = tokenizer(texts[:-1], add_special_tokens=False)["input_ids"]
            # every third text is an answer: bos, question, answer, line break, question, answer, ...
            parts = [(ids, 1.0 if n % 3 == 2 else REST_WEIGHT) for n, ids in enumerate(encoded)]
        ids = [i for part, _ in parts for i in part]
        if len(ids) <= LONGEST:
            out.append((row.family, ids, [weight for part, weight in parts for _ in part]))
    return out


def corpus_words() -> list[str]:
    """Material for lists of any words."""
    return [word for word in vocabulary.words() if word.isascii()]


def chapter_rows(
    number: int, seen: int, size: int, tokenizer: Any, words: list[str]
) -> list[tuple[str, list[int], list[float]]]:
    """The rows of a chapter: at least `size` tokens, from worlds of its own."""
    rng = random.Random(f"chapter {number}")
    mix = STAGES[max(start for start in STAGES if start <= seen)]
    most = NOTES[max(start for start in NOTES if start <= seen)]
    rows: list[tuple[str, list[int], list[float]]] = []
    tokens, world = 0, 0
    while tokens < size:
        book = corpus.book(corpus.FIRST_SEED + number * 100 + world)
        world += 1
        drawn = [
            corpus.draw(rng, family, book, words, rng.randint(1, most))
            for family in rng.choices(list(mix), list(mix.values()), k=min(400, size // 100))
        ]
        new = encode([row for row in drawn if row is not None], tokenizer)
        rows += new
        tokens += sum(len(ids) for _, ids, _ in new)
    return rows


def batches(rows: list[Any], size: int, rng: random.Random) -> list[list[Any]]:
    """Rows of like length together, at most `size` padded tokens a batch, the batches in a random order."""
    rng.shuffle(rows)
    rows = sorted(rows, key=lambda row: len(row[1]))
    out: list[list[Any]] = [[]]
    for row in rows:
        if out[-1] and len(row[1]) * (len(out[-1]) + 1) > size:
            out.append([])
        out[-1].append(row)
    rng.shuffle(out)
    return out


def tensors(batch: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(len(ids) for _, ids, _ in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    weights = torch.zeros(len(batch), longest)
    for n, (_, row, weight) in enumerate(batch):
        ids[n, : len(row)] = torch.tensor(row)
        weights[n, : len(row)] = torch.tensor(weight)
    return ids, weights


def loss_of(
    model: Model, batch: list[Any], generator: torch.Generator
) -> tuple[torch.Tensor, float, dict[str, list[float]]]:
    """Weighted sum of losses, sum of the weights, and by family: answer tokens, those that came out, their loss."""
    ids, weights = tensors(batch)
    table = model.embedding()
    hidden = model.states(ids, table)[:, :-1]
    wanted, weights = ids[:, 1:], weights[:, 1:]
    answers = weights == 1.0
    rest = (weights > 0) & ~answers & (torch.rand(weights.shape, generator=generator) < REST_SHARE)
    weights = torch.where(rest, weights / REST_SHARE, torch.where(answers, weights, 0.0))
    kept = answers | rest
    logits = hidden[kept] @ table.T
    losses = cross_entropy(logits, wanted[kept], reduction="none")
    loss = (losses * weights[kept]).sum()
    full = torch.zeros_like(weights)
    full[kept] = losses.detach()
    hits = torch.zeros_like(answers)
    hits[kept] = logits.argmax(-1) == wanted[kept]
    told: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for n, (family, _, _) in enumerate(batch):
        at = answers[n]
        told[family][0] += int(at.sum())
        told[family][1] += int((hits[n] & at).sum())
        told[family][2] += float(full[n][at].sum())
    return loss, float(weights[kept].sum()), told


@torch.no_grad()
def probe(model: Model, tokenizer: Any, words: list[str], count: int) -> dict[str, dict[str, float]]:
    """Held-out rows, by family: the share of answers that greedy decoding gives exactly, and of answer tokens."""
    rng = random.Random("probe")
    world = corpus.book(corpus.PROBE_SEED)
    table = model.embedding()
    out = {}
    for name, family in PROBES.items():
        rows = [corpus.draw(rng, family, world, words, 5) for _ in range(count)]
        encoded = encode([row for row in rows if row is not None], tokenizer)
        exact, answers, right, tokens = 0, 0, 0, 0
        for batch in batches(encoded, 4096, random.Random(0)):
            ids, weights = tensors(batch)
            said = (model.states(ids, table)[:, :-1] @ table.T).argmax(-1) == ids[:, 1:]
            for hits, weight in zip(said.tolist(), weights[:, 1:].tolist(), strict=True):
                run: list[bool] = []
                for hit, w in zip([*hits, True], [*weight, 0.0], strict=True):
                    if w == 1.0:
                        run.append(hit)
                    elif run:
                        exact, answers = exact + all(run), answers + 1
                        right, tokens = right + sum(run), tokens + len(run)
                        run = []
        out[name] = {"answers": answers, "exact": round(exact / answers, 3), "tokens_right": round(right / tokens, 3)}
    return out


def rate_at(step: int, seen: int, total: int, decay: float) -> float:
    """Share of the learning rates: up in WARMUP steps, constant, down to nothing in the last `decay` of the tokens."""
    return min(1.0, (step + 1) / WARMUP, max(0.0, (total - seen) / (decay * total)))


class Run:
    """The model, its optimizers and its record: all that a killed run goes on from, in one file."""

    def __init__(self, told: argparse.Namespace):
        self.told = told
        self.path = told.out / "state.pt"
        told.out.mkdir(parents=True, exist_ok=True)
        if not (told.out / "tokenizer.json").exists():
            vocabulary.build(told.out)
        self.tokenizer = AutoTokenizer.from_pretrained(told.out)
        self.words = corpus_words()
        self.model = Model(self.tokenizer)
        if told.start is not None:
            self.model.take(told.start)
        self.muon = Muon(self.model.matrices(), lr=told.lr)
        self.adam = torch.optim.AdamW(self.model.others(), lr=told.embedding_lr, betas=(0.9, 0.98), weight_decay=0.0)
        self.parts = {"model": self.model, "muon": self.muon, "adam": self.adam}
        self.record: dict[str, Any] = {"seen": told.seen, "step": 0, "runs": [], "chapters": []}
        if self.path.exists():
            state = torch.load(self.path)
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
            self.record = state["record"]
        settings = {name: value for name, value in vars(told).items() if name not in ("out", "start", "seen")}
        self.record["runs"].append({"from_tokens": self.record["seen"], **settings})

    def chapter(self) -> dict[str, Any]:
        """Learn the next chapter. Returns what the record says of it."""
        told, record = self.told, self.record
        number, start, seen = len(record["chapters"]), time.process_time(), 0
        rows = chapter_rows(told.first_chapter + number, record["seen"], told.chapter, self.tokenizer, self.words)
        made = time.process_time() - start
        generator = torch.Generator().manual_seed(number)
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        order = batches(rows, told.batch, random.Random(f"order {number}"))
        for first in range(0, len(order), told.accumulate):
            share = rate_at(record["step"], record["seen"] + seen, int(told.tokens), told.decay)
            for optimizer, lr in ((self.muon, told.lr), (self.adam, told.embedding_lr)):
                for group in optimizer.param_groups:
                    group["lr"] = lr * share
            self.model.zero_grad(set_to_none=True)
            total = 0.0
            for batch in order[first : first + told.accumulate]:
                loss, weight, families = loss_of(self.model, batch, generator)
                loss.backward()
                total += weight
                seen += sum(len(ids) for _, ids, _ in batch)
                for family, parts in families.items():
                    sums[family] = [a + b for a, b in zip(sums[family], parts, strict=True)]
            for p in self.model.parameters():
                if p.grad is not None:
                    p.grad /= total
            torch.nn.utils.clip_grad_norm_(self.model.others(), 1.0)
            self.muon.step()
            self.adam.step()
            record["step"] += 1
        record["seen"] += seen
        return {
            "tokens": record["seen"],
            "steps": record["step"],
            "cpu_seconds": round(time.process_time() - start, 1),
            "making_seconds": round(made, 1),
            "tokens_right": {f: round(right / n, 3) for f, (n, right, _) in sorted(sums.items()) if n},
            "answer_loss": {f: round(lost / n, 3) for f, (n, _, lost) in sorted(sums.items()) if n},
        }

    def save(self) -> None:
        """Write the state, the record and the plain model; a kill on the way leaves the state before."""
        state = {name: part.state_dict() for name, part in self.parts.items()} | {"record": self.record}
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.path)
        (self.told.out / "record.json").write_text(json.dumps(self.record, indent=1) + "\n", encoding="utf-8")
        self.model.folded().save_pretrained(self.told.out)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the state, the record and the model")
    parser.add_argument("--tokens", type=float, default=10e6, help="tokens to have seen in the end")
    parser.add_argument("--decay", type=float, default=0.2, help="share of them with a falling rate")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--lr", type=float, default=5e-3, help="of the matrices")
    parser.add_argument("--embedding-lr", type=float, default=2e-3, help="of all else")
    parser.add_argument("--batch", type=int, default=1536, help="padded tokens of rows of like length")
    parser.add_argument("--accumulate", type=int, default=1, help="such batches a step")
    parser.add_argument("--chapter", type=int, default=CHAPTER, help="tokens between two saved states")
    parser.add_argument("--probe-every", type=int, default=5, help="chapters")
    parser.add_argument("--probe-rows", type=int, default=60, help="of each probe")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="folder of a model to begin with, in place of a fresh one")
    parser.add_argument("--seen", type=int, default=0, help="with --start: the tokens that it has seen")
    parser.add_argument("--first-chapter", type=int, default=0, help="with --start: one whose worlds it has not seen")
    told = parser.parse_args(argv)
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(told.threads)
    torch.manual_seed(told.seed)
    run = Run(told)
    weights = sum(p.numel() for p in run.model.llama.parameters())
    print(f"{weights:,} weights, {len(run.tokenizer)} tokens, from {run.record['seen']:,}", flush=True)
    while run.record["seen"] < told.tokens:
        chapter = run.chapter()
        run.record["chapters"].append(chapter)
        if len(run.record["chapters"]) % told.probe_every == 0:
            chapter["probes"] = probe(run.model, run.tokenizer, run.words, told.probe_rows)
        run.save()
        print(json.dumps(chapter), flush=True)
    last = run.record["chapters"][-1]
    if set(last.get("probes", ())) != set(PROBES):
        last["probes"] = probe(run.model, run.tokenizer, run.words, told.probe_rows)
        run.save()
        print(json.dumps(last["probes"]), flush=True)


if __name__ == "__main__":
    main()
