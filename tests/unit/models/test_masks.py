"""Masks against their rule, spelled out position by position in plain Python."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import MismatchError
from headrace.models.masks import Mask, causal, forked, packed_causal, packed_prefix_lm, prefix_lm


@st.composite
def packed_rows(draw: st.DrawFn) -> tuple[list[list[int]], list[list[bool]]]:
    """Two rows of documents, each a prompt and a target, and padding at the end."""
    tokens = draw(st.integers(1, 12))
    segments, prefixes = [], []
    for _ in range(2):
        lengths = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)), max_size=4))
        segment_T = [n for n, (p, t) in enumerate(lengths, start=1) for _ in range(p + t)]
        prefix_T = [part for p, t in lengths for part in [True] * p + [False] * t]
        segments.append((segment_T + [0] * tokens)[:tokens])
        prefixes.append((prefix_T + [False] * tokens)[:tokens])
    return segments, prefixes


def rule(segment_T: list[int], prefix_T: list[bool]) -> list[list[bool]]:
    positions = range(len(segment_T))
    return [[segment_T[i] == segment_T[j] and (j <= i or prefix_T[j]) for j in positions] for i in positions]


def written_out(mask: Mask, tokens: int) -> list[list[list[bool]]]:
    dense_B1TT = mask.dense(tokens)
    if dense_B1TT is None:
        dense_B1TT = torch.ones(1, 1, tokens, tokens, dtype=torch.bool).tril()
    rows = dense_B1TT.expand(2, 1, tokens, tokens)[:, 0].tolist()
    return list(rows)


@given(packed_rows())
def test_a_packed_prefix_mask_is_its_rule_at_every_pair_of_positions(rows: tuple[list, list]) -> None:
    segments, prefixes = rows
    mask = packed_prefix_lm(torch.tensor(segments, dtype=torch.int32), torch.tensor(prefixes))
    assert written_out(mask, len(segments[0])) == [rule(s, p) for s, p in zip(segments, prefixes, strict=True)]


@given(packed_rows())
def test_pair_by_pair_a_mask_says_what_it_writes_out(rows: tuple[list, list]) -> None:
    segments, prefixes = rows
    tokens = len(segments[0])
    mask = packed_prefix_lm(torch.tensor(segments, dtype=torch.int32), torch.tensor(prefixes))
    asked = mask.rule(2, tokens)
    assert (asked is None) == (mask.dense(tokens) is None)
    if asked is not None:
        row, query, key = torch.meshgrid(torch.arange(2), torch.arange(tokens), torch.arange(tokens), indexing="ij")
        expected = [rule(s, p) for s, p in zip(segments, prefixes, strict=True)]
        assert asked.sees(row, torch.zeros_like(row), query, key).tolist() == expected


@given(packed_rows())
def test_a_packed_causal_mask_is_its_rule_at_every_pair_of_positions(rows: tuple[list, list]) -> None:
    segments, _ = rows
    tokens = len(segments[0])
    expected = [rule(segment_T, [False] * tokens) for segment_T in segments]
    assert written_out(packed_causal(torch.tensor(segments)), tokens) == expected


@given(st.lists(st.integers(0, 6), min_size=2, max_size=2))
def test_a_prefix_mask_shows_each_row_its_own_prompt_and_no_other(lengths: list[int]) -> None:
    expected = [rule([1] * 6, [j < length for j in range(6)]) for length in lengths]
    assert written_out(prefix_lm(lengths), 6) == expected
    assert written_out(prefix_lm(torch.tensor(lengths)), 6) == expected


def test_no_matrix_is_made_where_the_rule_is_plainly_causal() -> None:
    one_document_a_row = torch.tensor([[1, 1, 1], [2, 2, 2]])
    no_prompt = torch.zeros(2, 3, dtype=torch.bool)
    assert causal().dense(3) is None
    assert packed_causal(one_document_a_row).dense(3) is None
    assert packed_prefix_lm(one_document_a_row, no_prompt).dense(3) is None
    assert prefix_lm([0, 0]).dense(3) is None
    assert packed_causal(torch.tensor([[1, 1, 1], [1, 1, 2]])).dense(3) is not None
    assert prefix_lm([0, 1]).dense(3) is not None


@given(packed_rows())
def test_every_query_sees_at_least_itself_padding_included(rows: tuple[list, list]) -> None:
    segments, prefixes = rows
    for row in written_out(packed_prefix_lm(torch.tensor(segments), torch.tensor(prefixes)), len(segments[0])):
        assert all(row[i][i] for i in range(len(row)))


def test_a_mask_for_other_rows_is_refused_with_both_lengths() -> None:
    with pytest.raises(MismatchError, match=r"3 positions and the batch has 4"):
        packed_causal(torch.ones(1, 3)).dense(4)
    with pytest.raises(MismatchError, match=r"prompt of 5 positions and the batch has 4"):
        prefix_lm([5]).dense(4)
    with pytest.raises(MismatchError, match=r"\(1, 3\) and prefix_BT \(1, 4\)"):
        packed_prefix_lm(torch.ones(1, 3), torch.ones(1, 4))


@given(
    st.lists(st.tuples(st.integers(1, 4), st.lists(st.integers(0, 3), min_size=1, max_size=3)), min_size=2, max_size=2),
    st.booleans(),
)
def test_branches_see_their_trunk_and_themselves_and_stand_where_they_would_alone(
    rows: list[tuple[int, list[int]]], prompt: bool
) -> None:
    """Each branch's tokens see what they would in a row of trunk and branch alone, and nothing else."""
    tokens = max(trunk + sum(lengths) for trunk, lengths in rows)
    mask = forked([trunk for trunk, _ in rows], [lengths for _, lengths in rows], prompt=prompt)
    for row, (seen, (trunk, lengths)) in enumerate(zip(written_out(mask, tokens), rows, strict=True)):
        start = trunk
        for length in lengths:
            branch = range(start, start + length)
            line = [*range(trunk), *branch]
            alone = rule([1] * len(line), [prompt and n < trunk for n in range(len(line))])
            for at, i in enumerate(line):
                assert [j for j in range(tokens) if seen[i][j]] == [line[n] for n in range(len(line)) if alone[at][n]]
            if mask.positions_BT is not None:
                assert mask.positions_BT[row, branch].tolist() == list(range(trunk, trunk + length))
            start += length


def test_rows_that_do_not_fork_are_plain_ones() -> None:
    assert forked([3, 5], [[2], [1]], prompt=False).dense(6) is None
    assert forked([3, 5], [[2], [1]], prompt=True).branches_BT is None
