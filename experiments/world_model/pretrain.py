"""Pretrain the small base model of the simulated world: `python experiments/world_model/pretrain.py --out DIR`.

Resumable: the state is saved after every chapter (some hundred thousand tokens), and a killed run goes on from there.
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

# family -> (tokens seen before it enters, share then): short rows first, long contexts and pages when those work
MIX = {
    "drill_copy": (0, 3.0), "drill_both": (0, 4.0), "drill_find": (0, 2.0), "drill_noun": (0, 2.5),
    "drill_clause": (0, 4.0), "drill_suit": (100_000, 3.0), "list": (200_000, 1.0), "both": (200_000, 1.5),
    "pairs": (200_000, 0.5), "numbers": (200_000, 0.7), "nouns": (200_000, 0.5), "review": (200_000, 5.0),
    "suit": (200_000, 2.0), "weigh": (400_000, 0.7), "person": (500_000, 2.0), "record": (500_000, 2.0),
    "meeting": (900_000, 4.0), "page": (900_000, 0.4),
}  # fmt: skip
PAGE_WEIGHT, REST_WEIGHT = 0.3, 0.1
REST_SHARE = 0.1  # of a question's tokens that take part in the loss, at REST_WEIGHT / REST_SHARE: saves their logits
CHAPTER = 100_000  # tokens
LONGEST = 900  # tokens of a row
PROBES = {"copying": "list", "intersection": "both", "reading": "review", "match": "suit", "histories": "meeting"}


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


def chapter_rows(number: int, seen: int, tokenizer: Any, words: list[str]) -> list[tuple[str, list[int], list[float]]]:
    """The rows of a chapter: about CHAPTER tokens, from worlds of its own."""
    rng = random.Random(f"chapter {number}")
    mix = {family: share for family, (enters, share) in MIX.items() if seen >= enters}
    most = 3 if seen < 2_000_000 else 6
    rows: list[tuple[str, list[int], list[float]]] = []
    tokens, world = 0, 0
    while tokens < CHAPTER:
        book = corpus.book(corpus.FIRST_SEED + number * 100 + world)
        world += 1
        drawn = [
            corpus.draw(rng, family, book, words, rng.randint(1, most))
            for family in rng.choices(list(mix), list(mix.values()), k=400)
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


def loss_of(model: Model, batch: list[Any], generator: torch.Generator) -> tuple[torch.Tensor, dict[str, list[float]]]:
    """Weighted mean loss, and by family: answer tokens, those that came out, their loss."""
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
    loss = (losses * weights[kept]).sum() / weights[kept].sum()
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
    return loss, told


@torch.no_grad()
def probe(model: Model, tokenizer: Any, words: list[str], count: int = 60) -> dict[str, dict[str, float]]:
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


def rate_at(seen: int, total: int, decay: float) -> float:
    """Share of the learning rate: constant, then down to nothing over the last `decay` of the tokens."""
    return min(1.0, max(0.0, (total - seen) / (decay * total)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the state, the record and the model")
    parser.add_argument("--tokens", type=float, default=10e6, help="tokens to see in all")
    parser.add_argument("--decay", type=float, default=0.2, help="share of them with a falling rate")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--embedding-lr", type=float, default=3e-3)
    parser.add_argument("--batch", type=int, default=1536, help="padded tokens a step")
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    torch.manual_seed(told.seed)
    told.out.mkdir(parents=True, exist_ok=True)
    from transformers import AutoTokenizer

    if not (told.out / "tokenizer.json").exists():
        vocabulary.build(told.out)
    tokenizer = AutoTokenizer.from_pretrained(told.out)
    words = [word for word in vocabulary.words() if word.isascii()]
    model = Model(tokenizer)
    muon = Muon(model.matrices(), lr=told.lr)
    adam = torch.optim.AdamW(model.others(), lr=told.embedding_lr, betas=(0.9, 0.98), weight_decay=0.0)
    record: dict[str, Any] = {"settings": vars(told) | {"out": None}, "chapters": [], "step": 0, "seen": 0}
    path = told.out / "state.pt"
    if path.exists():
        state = torch.load(path)
        model.load_state_dict(state["model"])
        muon.load_state_dict(state["muon"])
        adam.load_state_dict(state["adam"])
        record = state["record"]
    weights = sum(p.numel() for p in model.llama.parameters())
    print(f"{weights:,} weights, {len(tokenizer)} tokens, from {record['seen']:,}", flush=True)
    while record["seen"] < told.tokens:
        number = len(record["chapters"])
        start = time.process_time()
        rows = chapter_rows(number, record["seen"], tokenizer, words)
        made = time.process_time() - start
        generator = torch.Generator().manual_seed(number)
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        seen = 0
        for batch in batches(rows, told.batch, random.Random(f"order {number}")):
            share = min(1.0, (record["step"] + 1) / 30) * rate_at(record["seen"] + seen, int(told.tokens), told.decay)
            for optimizer, lr in ((muon, told.lr), (adam, told.embedding_lr)):
                for group in optimizer.param_groups:
                    group["lr"] = lr * share
            loss, families = loss_of(model, batch, generator)
            model.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.others(), 1.0)
            muon.step()
            adam.step()
            record["step"] += 1
            seen += sum(len(ids) for _, ids, _ in batch)
            for family, parts in families.items():
                sums[family] = [a + b for a, b in zip(sums[family], parts, strict=True)]
        record["seen"] += seen
        used = time.process_time() - start
        chapter = {
            "tokens": record["seen"],
            "steps": record["step"],
            "cpu_seconds": round(used, 1),
            "making_seconds": round(made, 1),
            "tokens_right": {f: round(right / n, 3) for f, (n, right, _) in sorted(sums.items()) if n},
            "answer_loss": {f: round(lost / n, 3) for f, (n, _, lost) in sorted(sums.items()) if n},
        }
        if number % 5 == 4 or record["seen"] >= told.tokens:
            chapter["probes"] = probe(model, tokenizer, words)
        record["chapters"].append(chapter)
        print(json.dumps(chapter), f"{seen / used:.0f} tok/s of CPU time", flush=True)
        partial = told.out / "state.partial"
        torch.save(
            {"model": model.state_dict(), "muon": muon.state_dict(), "adam": adam.state_dict(), "record": record},
            partial,
        )
        os.replace(partial, path)
        (told.out / "record.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    model.folded().save_pretrained(told.out)


if __name__ == "__main__":
    main()
