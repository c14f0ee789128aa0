"""Which keys a tile meets, and which rows are left to torch."""

import pytest
import torch

from headrace.models import tiling
from headrace.models.masks import packed_causal, prefix_lm
from tests.unit.models.masked_rows import ROWS, documents, masks, seen_by


@pytest.mark.parametrize("name", masks(300))
def test_a_tile_meets_all_keys_that_its_queries_see_and_none_before_or_after_them(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiling, "MOST_OF_ROW", 1.0)
    mask = masks(300)[name]
    groups = tiling.cut(mask.dense(300), ROWS, 300, 8)
    assert groups is not None
    seen_BTT = seen_by(mask, 300).expand(ROWS, 1, 300, 300)[:, 0]
    reached = torch.zeros(ROWS, 300)
    for group in groups:
        for (queries, keys), bias in group.tiles:
            seen = seen_BTT[group.rows, queries]
            met = seen.any(1).any(0).nonzero()
            assert (keys.start, keys.stop) == (int(met.min()), int(met.max()) + 1)
            hidden = torch.zeros(len(seen), 1, seen.shape[1], keys.stop - keys.start)
            hidden[..., -bias.shape[-1] :] += bias
            assert torch.equal(hidden[:, 0] == 0, seen[:, :, keys])
            reached[group.rows, queries] += 1
    assert torch.equal(reached, torch.ones(ROWS, 300))


def test_documents_packed_into_a_row_leave_most_keys_unmet() -> None:
    groups = tiling.cut(packed_causal(documents(1024)).dense(1024), ROWS, 1024, 4)
    assert groups is not None
    assert tiling.mean_keys(groups) < 300


def test_torch_is_left_what_it_does_as_well() -> None:
    seeing_all = prefix_lm([300]).dense(300)
    assert tiling.cut(None, 4, 191, 4) is None
    assert tiling.cut(None, 4, 192, 4) is not None
    assert tiling.cut(None, 4, 896, 4) is not None
    assert tiling.cut(None, 4, 897, 4) is None
    assert tiling.cut(seeing_all, 4, 300, 4) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert tiling.cut(None, 4, 300, 4) is None
