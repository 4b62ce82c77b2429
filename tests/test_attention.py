"""Attention with shared keys: what transformers computes with a copy of them for each head."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from r4r.lm.attention import attend


@given(
    rows=st.integers(1, 3),
    shared=st.sampled_from([1, 2, 3]),
    group=st.sampled_from([1, 2, 4]),
    length=st.integers(1, 5),
    before=st.integers(0, 6),
    kind=st.sampled_from(["none", "seen", "added", "of all queries"]),
    seed=st.integers(0, 99),
)
def test_it_is_that_of_copied_keys(
    rows: int, shared: int, group: int, length: int, before: int, kind: str, seed: int
) -> None:
    torch.manual_seed(seed)
    known = length + before
    query = torch.randn(rows, shared * group, length, 4, requires_grad=True)
    key, value = (torch.randn(rows, shared, known, 4, requires_grad=True) for _ in range(2))
    mask: Any = torch.ones(rows, 1, length, known, dtype=torch.bool).tril(before)
    mask &= (torch.arange(known) >= torch.randint(0, before + 1, (rows,))[:, None])[:, None, None]  # padded on the left
    if kind == "added":
        mask = torch.zeros(mask.shape).masked_fill_(~mask, torch.finfo(torch.float32).min)
    elif kind == "of all queries":
        mask = mask[:, :, -1:]
    elif kind == "none":
        mask = None
    module: Any = SimpleNamespace(num_key_value_groups=group, is_causal=True, training=False)
    found, _ = attend(module, query, key, value, mask, scaling=0.7)
    copied = [repeat_kv(each, group) for each in (key, value)]
    alone: Any = SimpleNamespace(num_key_value_groups=1, is_causal=True, training=False)
    expected, _ = sdpa_attention_forward(alone, query, *copied, mask, scaling=0.7)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    weights = torch.randn(found.shape)
    gradients = [
        torch.autograd.grad((each * weights).sum(), (query, key, value), retain_graph=True)
        for each in (found, expected)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("tiny")
def test_a_loaded_model_computes_so() -> None:
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is attend
