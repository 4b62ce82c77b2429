"""The language model: batched generation is transformers' own, batches keep their budget, chat is the template's."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from r4r.errors import ModelError
from r4r.lm import decoding
from r4r.lm.base import LanguageModel
from r4r.lm.batches import common_prefix, plan_batches
from r4r.lm.chat import Chat
from r4r.lm.device import pick_dtype
from r4r.lm.engine import HF
from r4r.lm.generate import generate
from r4r.lm.write import encode_prompts, row_seeds, write_batches, write_texts

LONG = "Item review history: the user would like the music because of its melody. " * 12
PROMPTS = ["music", LONG + "title 1", LONG + "predict the rating of this album, please", LONG, "a " * 40, "title 2: 5"]


def by_transformers(lm: LanguageModel, prompt: list[int], tokens: int, ends: tuple[int, ...]) -> list[int]:
    """What transformers generates for this prompt alone."""
    ids = torch.tensor([prompt])
    out: Any = lm.causal.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=tokens,
        eos_token_id=list(ends),
        pad_token_id=0,
    )
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("chosen", [[0, 1, 2, 3, 4, 5], [1, 2, 3], [0], [4, 4]], ids=["mixed", "shared", "one", "same"])
def test_generation_is_that_of_transformers_row_by_row(tiny: LanguageModel, chosen: list[int]) -> None:
    prompts = [tiny.chat.prompt_ids(PROMPTS[n]) for n in chosen]
    if chosen == [1, 2, 3]:
        assert common_prefix(prompts) > 100
    expected = [by_transformers(tiny, p, 12, tiny.chat.end_ids) for p in prompts]
    assert generate(tiny, prompts, 12) == expected


def test_more_tokens_than_the_cache_has_room_for(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r4r.lm.cache.AHEAD", 3)
    prompts = [tiny.chat.prompt_ids(text) for text in PROMPTS[:3]]
    assert generate(tiny, prompts, 12) == [by_transformers(tiny, p, 12, tiny.chat.end_ids) for p in prompts]


def test_one_prompt_may_be_the_beginning_of_another(tiny: LanguageModel) -> None:
    long = tiny.chat.prompt_ids(PROMPTS[2])
    prompts = [long, long[:30], long[:31]]
    assert generate(tiny, prompts, 6) == [by_transformers(tiny, p, 6, tiny.chat.end_ids) for p in prompts]


def test_rows_that_finish_early_leave_and_the_others_go_on(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [tiny.chat.prompt_ids(text) for text in PROMPTS]
    unbroken = generate(tiny, prompts, 16)
    ends = tuple({unbroken[0][1], unbroken[1][4], unbroken[2][7], unbroken[5][0]})
    monkeypatch.setattr(tiny.chat, "end_ids", ends)
    expected = [by_transformers(tiny, p, 16, ends) for p in prompts]
    assert len({len(out) for out in expected}) >= 3, "the rows must finish at different steps"
    assert generate(tiny, prompts, 16) == expected


class Recordings:
    """In place of CUDA graphs: a replay computes the same on the same tensors, and gives the one that it gave first."""

    def __init__(self) -> None:
        self.replays: list[int] = []  # of each recording

    def __call__(self, compute: Any) -> Any:
        number, result = len(self.replays), compute()
        self.replays.append(0)

        def replay() -> torch.Tensor:
            self.replays[number] += 1
            result.copy_(compute())
            return result

        return replay


def test_recorded_steps_write_the_same_texts(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, seeds = [tiny.chat.prompt_ids(text) for text in PROMPTS], row_seeds(3, PROMPTS)
    unbroken = generate(tiny, prompts, 16)
    monkeypatch.setattr(tiny.chat, "end_ids", tuple({unbroken[0][1], unbroken[1][4], unbroken[2][7], unbroken[5][0]}))
    expected = generate(tiny, prompts, 16), generate(tiny, prompts, 16, 1.0, seeds)
    recordings = Recordings()
    monkeypatch.setattr(decoding, "record", recordings)
    monkeypatch.setattr(tiny, "records_steps", True)
    assert generate(tiny, prompts, 16) == expected[0]
    assert len(recordings.replays) > 1, "rows that finished have left, and a smaller step was recorded"
    assert generate(tiny, prompts, 16, 1.0, seeds) == expected[1]
    recordings.replays.clear()
    assert generate(tiny, prompts, 4) == [out[:4] for out in expected[0]]
    assert recordings.replays == [], "so few steps are not worth it"


def test_where_a_step_cannot_be_recorded_it_is_said_and_computed(
    load_tiny: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    lm = load_tiny()
    prompts = [lm.chat.prompt_ids(text) for text in PROMPTS]
    expected = generate(lm, prompts, 16)

    def fails(compute: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(decoding, "record", fails)
    lm.records_steps = True
    assert generate(lm, prompts, 16) == generate(lm, prompts, 16) == expected
    assert capfd.readouterr().err.count("cannot be recorded (operation not permitted when stream is capturing)") == 1
    lm.records_steps = True
    monkeypatch.setattr(decoding, "record", lambda compute: (_ for _ in ()).throw(torch.OutOfMemoryError("out")))
    with pytest.raises(torch.OutOfMemoryError):
        generate(lm, prompts, 16)


class FailingGraph:
    """torch.cuda.graph where a recording breaks off: its own stream stays in place, and its end fails too."""

    def __init__(self, graph: Any):
        self.before = streams[-1]

    def __enter__(self) -> None:
        streams.append("of the recording")

    def __exit__(self, *args: Any) -> None:
        raise RuntimeError("capture_end failed")


streams: list[str] = []


def test_a_recording_that_breaks_off_leaves_the_gpu_as_it_was(
    load_tiny: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    modes: list[str | int] = [0]
    streams[:] = ["the job's"]

    class Stream(str):
        def wait_stream(self, other: str) -> None:
            pass

    fakes = {
        "current_stream": lambda: Stream(streams[-1]),
        "Stream": lambda: Stream("beside"),
        "stream": lambda stream: nullcontext(),
        "set_stream": streams.append,
        "graph": FailingGraph,
        "CUDAGraph": lambda: None,
        "get_sync_debug_mode": lambda: modes[-1],
        "set_sync_debug_mode": modes.append,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    lm = load_tiny()
    prompts = [lm.chat.prompt_ids(text) for text in PROMPTS]
    expected = generate(lm, prompts, 16)
    seen: list[str | int] = []

    class Watched(decoding.Recorded):
        def _compute(self) -> Any:
            seen.append(modes[-1])
            if streams[-1] == "of the recording":
                raise RuntimeError("this model asks the GPU for a number")
            return super()._compute()

    monkeypatch.setattr(decoding, "Recorded", Watched)
    lm.records_steps = True
    assert generate(lm, prompts, 16) == expected
    assert streams[-1] == "the job's"
    assert seen == [0, "error", 0], "a step that waits is found before it is recorded"
    assert "cannot be recorded (this model asks the GPU for a number)" in capfd.readouterr().err


def test_all_rows_finished_ends_generation(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [tiny.chat.prompt_ids(text) for text in PROMPTS[:2]]
    first = [out[0] for out in generate(tiny, prompts, 1)]
    monkeypatch.setattr(tiny.chat, "end_ids", tuple(first))
    assert generate(tiny, prompts, 50) == [[token] for token in first]


def test_sampling_is_reproducible_by_its_seed(tiny: LanguageModel) -> None:
    prompts = [tiny.chat.prompt_ids(text) for text in PROMPTS[:3]]
    torch.manual_seed(1)
    one = generate(tiny, prompts, 10, temperature=1.0, seeds=[7, 8, 9])
    torch.manual_seed(2)
    assert generate(tiny, prompts, 10, temperature=1.0, seeds=[7, 8, 9]) == one
    assert generate(tiny, prompts, 10, temperature=1.0, seeds=[8, 9, 10]) != one
    assert generate(tiny, prompts, 10) != one


def test_a_sample_does_not_depend_on_its_batch(tiny: LanguageModel) -> None:
    prompts = [tiny.chat.prompt_ids(text) for text in PROMPTS]
    seeds = row_seeds(3, PROMPTS)
    together = generate(tiny, prompts, 10, temperature=1.0, seeds=seeds)
    alone = [generate(tiny, [p], 10, temperature=1.0, seeds=[s])[0] for p, s in zip(prompts, seeds, strict=True)]
    assert alone == together
    one, other = row_seeds(3, ["a", "b", "a"])[::2]
    assert one != other, "equal prompts are different candidates"


def test_samples_follow_the_models_probabilities(tiny: LanguageModel) -> None:
    prompt = tiny.chat.prompt_ids("music")
    with torch.inference_mode():
        expected = tiny.causal(torch.tensor([prompt])).logits[0, -1].float().softmax(-1)
    drawn = torch.tensor([out[0] for out in generate(tiny, [prompt] * 4000, 1, temperature=1.0, seeds=range(4000))])
    for token in expected.topk(3).indices.tolist():
        share = float((drawn == token).float().mean())
        assert share == pytest.approx(float(expected[token]), abs=4 * float((expected[token] / 4000).sqrt()))


def test_texts_come_in_the_order_of_their_prompts(tiny: LanguageModel) -> None:
    alone = [write_texts(HF(tiny), [prompt], 5)[0] for prompt in PROMPTS]
    together = write_texts(HF(tiny), PROMPTS, 5)
    assert [t.text for t in together] == [t.text for t in alone]
    assert [t.tokens_in for t in together] == [len(tiny.chat.prompt_ids(p)) for p in PROMPTS]


def test_batches_done_before_are_not_computed_again(load_tiny: Any) -> None:
    engine = HF(load_tiny(batch_tokens=256))
    whole = list(write_batches(engine, PROMPTS, 4, temperature=1.0, seed=3))
    assert len(whole) > 2
    done = {place for places, _ in whole[:2] for place in places}
    assert list(write_batches(engine, PROMPTS, 4, temperature=1.0, seed=3, done=done)) == whole[2:]


def test_prompts_done_by_other_units_are_left_out(load_tiny: Any) -> None:
    """What a killed job finished in batches of another size, or by another engine, is not written twice."""
    units = list(write_batches(HF(load_tiny(batch_tokens=8192)), PROMPTS, 4, done={0, 3}))
    assert sorted(place for places, _ in units for place in places) == [1, 2, 4, 5]


def test_a_prompt_without_room_for_the_answer_is_named(load_tiny: Any) -> None:
    engine = HF(load_tiny(max_length=64))
    with pytest.raises(ModelError, match=r"prompt 1 takes \d+ tokens.*max_length=64"):
        encode_prompts(engine, ["music", LONG], 8)


# batches


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 200), st.integers(0, 20))
def test_a_plan_holds_every_row_once_within_the_budget(lengths: list[int], budget: int, extra: int) -> None:
    plan = plan_batches(lengths, budget, extra)
    assert sorted(n for batch in plan for n in batch) == list(range(len(lengths)))
    for batch in plan:
        assert len(batch) == 1 or len(batch) * (max(lengths[n] for n in batch) + extra) <= budget
    assert plan_batches(list(lengths), budget, extra) == plan


def test_a_plan_fills_its_batches() -> None:
    assert [len(batch) for batch in plan_batches([10] * 10, 40)] == [4, 4, 2]
    assert [len(batch) for batch in plan_batches([10] * 10, 40, extra=10)] == [2] * 5


@given(st.lists(st.lists(st.integers(0, 2), max_size=8), min_size=1, max_size=5))
def test_a_common_prefix_is_shared_by_all_and_the_longest(rows: list[list[int]]) -> None:
    length = common_prefix(rows)
    assert all(row[:length] == rows[0][:length] for row in rows)
    assert any(len(row) == length for row in rows) or len({row[length] for row in rows}) > 1


# chat


def test_a_prompt_begins_with_bos_exactly_once(tiny: LanguageModel) -> None:
    ids = tiny.chat.prompt_ids("music")
    bos = tiny.chat.tokenizer.bos_token_id
    assert ids[0] == bos
    assert ids.count(bos) == 1
    assert tiny.chat.tokenizer.decode(ids) == "<|bos|><|start|>user\nmusic<|end|>\n<|start|>assistant\n"


def test_the_end_of_a_turn_is_read_off_the_template(tiny: LanguageModel) -> None:
    end = tiny.chat.tokenizer.convert_tokens_to_ids("<|end|>")
    assert tiny.chat.end_ids[0] == end
    assert tiny.chat.reply_ids("melody") == [*tiny.chat.reply_ids("melody", end=False), end]
    assert tiny.chat.text([*tiny.chat.reply_ids("melody"), *tiny.chat.reply_ids("lyrics")]) == "melody"


def changed_template(tiny: LanguageModel, template: str | None) -> Any:
    from copy import deepcopy

    tokenizer = deepcopy(tiny.chat.tokenizer)
    tokenizer.chat_template = template
    return tokenizer


def test_another_template_gives_another_end_of_turn(tiny: LanguageModel) -> None:
    tokenizer = changed_template(tiny, "{% for m in messages %}{{ m['content'] + '<|pad|>' }}{% endfor %}")
    assert Chat(tokenizer, None).end_ids == (tokenizer.pad_token_id,)


def test_a_system_message_is_written_where_one_is_set(tiny: LanguageModel) -> None:
    ids = Chat(tiny.chat.tokenizer, "be brief").prompt_ids("music")
    assert tiny.chat.tokenizer.decode(ids).startswith("<|bos|><|start|>system\nbe brief<|end|>\n<|start|>user\n")


@pytest.mark.parametrize("template", [None, ""])
def test_a_tokenizer_without_chat_template_is_refused(tiny: LanguageModel, template: str | None) -> None:
    with pytest.raises(ModelError, match="no chat template"):
        Chat(changed_template(tiny, template), None)


def test_a_template_that_never_ends_a_turn_is_refused(tiny: LanguageModel) -> None:
    with pytest.raises(ModelError, match="never stop"):
        Chat(changed_template(tiny, "{% for m in messages %}{{ m['content'] }}{% endfor %}"), None)


@given(text=st.text(max_size=60), limit=st.integers(1, 40))
def test_a_clipped_text_is_a_beginning_of_at_most_n_tokens(tiny: LanguageModel, text: str, limit: int) -> None:
    clipped = tiny.chat.clip(text, limit)
    assert text.startswith(clipped)
    assert len(tiny.chat.reply_ids(clipped, end=False)) <= limit
    if len(tiny.chat.reply_ids(text, end=False)) <= limit:
        assert clipped == text


def test_clipping_keeps_as_much_as_fits(tiny: LanguageModel) -> None:
    assert tiny.chat.clip("12345", 3) == "123"
    assert tiny.chat.clip("1\N{GRINNING FACE}2", 4) == "1"  # the face takes four tokens
    assert tiny.chat.clip("1\N{GRINNING FACE}2", 5) == "1\N{GRINNING FACE}"


# loading


@pytest.mark.parametrize(("computes_in_bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_without_bf16_computes_in_float16(
    computes_in_bf16: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T4 and V100 only emulate bf16."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: computes_in_bf16 or including_emulation
    )
    assert pick_dtype("auto", torch.device("cuda")) == dtype
    assert pick_dtype("float32", torch.device("cuda")) == torch.float32


def test_an_unknown_source_is_named(load_tiny: Any) -> None:
    with pytest.raises(ModelError, match="ftp:x"):
        load_tiny(source="ftp:x")


def test_a_folder_without_a_model_is_named(load_tiny: Any, tmp_path: Any) -> None:
    with pytest.raises(ModelError, match="not a loadable language model"):
        load_tiny(source=f"path:{tmp_path}")
