import numpy as np
import torch

from headrace.data.batch import UNSCORED, Batch, gather


def batch(rows: int, seed: int = 0) -> Batch:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 9, (rows, 5))
    labels[:, ::2] = UNSCORED
    segments = random.integers(0, 3, (rows, 5)).astype(np.int32)
    return Batch(random.integers(0, 9, (rows, 5)), labels, segments, segments == 2)


def test_tensors_hold_the_same_values_and_types() -> None:
    arrays = batch(3)
    tensors = arrays.torch()
    for name, dtype in (("tokens", "int64"), ("labels", "int64"), ("segments", "int32"), ("prefix", "bool")):
        array, tensor = getattr(arrays, f"{name}_BT"), getattr(tensors, f"{name}_BT")
        assert tensor.dtype == getattr(torch, dtype)
        np.testing.assert_array_equal(tensor.numpy(), array)


def picked(whole: Batch, rows: list[int]) -> Batch:
    return Batch(whole.tokens_BT[rows], whole.labels_BT[rows], whole.segments_BT[rows], whole.prefix_BT[rows])


def test_rows_of_a_batch_put_together_again_are_the_batch() -> None:
    whole = batch(5)
    joined = gather([(np.array(rows), picked(whole, rows)) for rows in ([1, 4], [0, 2, 3])])
    tensors = whole.torch().rows(2, 5)
    for name in ("tokens_BT", "labels_BT", "segments_BT", "prefix_BT"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
        np.testing.assert_array_equal(getattr(tensors, name).numpy(), getattr(whole, name)[2:])


def test_a_single_part_is_the_batch_and_not_copied() -> None:
    whole = batch(4)
    assert gather([(np.arange(4), whole)]).tokens_BT is whole.tokens_BT


def test_scored_and_filled_positions_are_counted() -> None:
    arrays = batch(7)
    assert arrays.scored() == sum(label != -100 for row in arrays.labels_BT.tolist() for label in row)
    assert arrays.filled() == sum(segment > 0 for row in arrays.segments_BT.tolist() for segment in row)
