"""Leak canaries: no inference prompt holds its target's review, and no history a row at or after its target's time."""

import re

import pandas as pd
import pytest

import r4r.stages.summarize
from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.preflight import preflight
from r4r.experts.onestep import OneStep
from r4r.experts.predictor import Predictor
from r4r.experts.reasoner import Reasoner
from r4r.experts.reward_model import RewardModel
from r4r.experts.summarizer import FIELDS
from r4r.run import run

CANARY = re.compile(r"canary(\d+)x")
STRATEGIES = ("multistep", "without_step1", "without_step2", "without_step3", "onestep", "cot")
INFERENCE = {  # the stages whose prompts may know nothing of the target's review, in all strategies
    "write/reasoner/experts Reasoner",
    "write/reasoner/test Reasoner",
    "predict/test Predictor",
    "write/onestep/test OneStep",
    "predict/test OneStep",
    "write/cot/test ChainOfThought",
    "predict/test ChainOfThought",
}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, list[tuple[str, int, str]]]:
    """Jobs of every strategy on reviews that each hold a word of their own, their Summarizer made to repeat the review.

    Gives the split with a `canary` column, and (stage, target's row_id, prompt) of every prompt of the experts that
    reason and predict, in training and in inference.
    """
    folder = tmp_path_factory.mktemp("canary")
    records = [
        {
            "user": f"u{n % 12}",
            "item": f"i{(n * 5 + n // 12) % 9}",
            "name": f"Item {(n * 5 + n // 12) % 9}",
            "stars": n % 5 + 1,
            "text": f"I liked canary{n}x very much",
            "when": 1_400_000_000 + (n // 2) * 86_400,  # two reviews a day: ties
        }
        for n in range(150)
    ]
    pd.DataFrame(records).to_csv(folder / "reviews.csv", index=False)
    overrides = [
        "experiment=smoke",
        "dataset=custom",
        "dataset.name=canaries",
        f"dataset.reviews={folder / 'reviews.csv'}",
        "dataset.columns={user_id: user, item_id: item, title: name, rating: stars, review: text, timestamp: when}",
        "dataset.category=Music",
        "dataset.prepare.k_core=2",
        "dataset.evaluate.max_rows=null",
        "dataset.pools.total=30",
        "dataset.pools.min_history_total=2",
        "references={}",
        "target=predict/test",
        "teacher.max_empty_share=1",
        "llm.max_length=4096",  # a summary that repeats its review three times is long
        f"paths.outputs={folder}",
    ]
    prompts: list[tuple[str, int, str]] = []
    stage = [""]
    loader = make_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "r4r.teacher_reach.beyond_simulator", lambda config: []
        )  # what it is shown counts, not its answers
        for expert in (Reasoner, Predictor, OneStep):  # the reward model reads the target's review by design

            def spy(self, case, _prompt=expert.prompt):  # type: ignore[no-untyped-def]
                text = _prompt(self, case)
                if stage[0] and not isinstance(self, RewardModel):
                    prompts.append((f"{stage[0]} {type(self).__name__}", case.row_id, text))
                return text

            patch.setattr(expert, "prompt", spy)

        from r4r.store.artifact import Store

        workspace = Store.workspace

        def noting(self, name, key):  # type: ignore[no-untyped-def]
            stage[0] = name
            return workspace(self, name, key)

        patch.setattr(Store, "workspace", noting)
        write_all = r4r.stages.summarize.write_all

        def parrot(work, adapter, row_ids, *rest):  # type: ignore[no-untyped-def]
            table, facts = write_all(work, adapter, row_ids, *rest)
            if adapter != "summarizer":
                return table, facts
            rows = work.inputs["split"].table(r4r.stages.summarize.REVIEWS).set_index("row_id")
            said = [
                "\n".join(f"{field}: {review}" for field in FIELDS) for review in rows.loc[table["row_id"], "review"]
            ]
            return table.assign(text=said), facts

        patch.setattr(r4r.stages.summarize, "write_all", parrot)
        for strategy in STRATEGIES:
            stage[0] = ""
            given = preflight([*overrides, f"strategy={strategy}"], loader=loader)
            run(validate(compose(loader, "config", given)), folder)
    rows = pd.read_parquet(next((folder / "artifacts" / "split").rglob("data.parquet")))
    return rows.assign(canary=rows["review"].str.extract(CANARY)[0].astype(int)), prompts


def inference(prompts: list[tuple[str, int, str]]) -> list[tuple[str, int, str]]:
    kept = [p for p in prompts if p[0].startswith(("write/", "predict/"))]
    assert {stage for stage, _, _ in kept} == INFERENCE
    return kept


def test_histories_do_carry_canaries(job) -> None:  # type: ignore[no-untyped-def]
    _, prompts = job
    assert all(CANARY.search(prompt) for _, _, prompt in inference(prompts))


def test_no_inference_prompt_holds_the_targets_review(job) -> None:  # type: ignore[no-untyped-def]
    rows, prompts = job
    own = rows.set_index("row_id")["canary"]
    for stage, row_id, prompt in inference(prompts):
        assert f"canary{own[row_id]}x" not in prompt, (stage, row_id)


def test_no_prompt_of_any_stage_holds_a_test_review(job) -> None:  # type: ignore[no-untyped-def]
    rows, prompts = job
    held_out = set(rows.loc[rows["split"] != "train", "canary"])
    assert held_out
    for stage, row_id, prompt in prompts:
        assert held_out.isdisjoint(int(n) for n in CANARY.findall(prompt)), (stage, row_id)


def test_every_history_row_is_older_than_its_target(job) -> None:  # type: ignore[no-untyped-def]
    rows, prompts = job
    when = rows.set_index("canary")["timestamp"]
    at = rows.set_index("row_id")["timestamp"]
    for stage, row_id, prompt in inference(prompts):
        for canary in CANARY.findall(prompt):
            assert when[int(canary)] < at[row_id], (stage, row_id, canary)
