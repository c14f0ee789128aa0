import pytest

from headrace.cluster.accelerators import GIB
from headrace.cluster.slices import SLICES, find_slice
from headrace.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "devices", "gib", "peak"),
    [
        ("h100x8", 8, 80, 8 * 989e12),
        ("v5e-256", 256, 16, 256 * 197e12),
        ("v4-32", 16, 32, 16 * 275e12),  # TensorCores are counted, two a chip
        ("v3-256", 256, 16, 128 * 123e12),  # a core is a device of its own
        ("v5p-8", 4, 95, 4 * 459e12),
    ],
)
def test_a_slice_is_as_large_as_its_name_says(name: str, devices: int, gib: float, peak: float) -> None:
    found = find_slice(name.upper())
    assert (found.devices, found.memory_bytes) == (devices, gib * GIB)
    assert found.devices * found.accelerator.bf16_flops == pytest.approx(peak)


def test_every_figure_of_every_slice_names_where_it_comes_from() -> None:
    assert len(SLICES) > 30
    for one in SLICES.values():
        assert one.accelerator.price_source
        assert one.accelerator.utilization_source
        assert 0.3 < one.accelerator.utilization < 0.7


def test_this_machine_is_a_slice() -> None:
    found = find_slice("cpu")
    assert found.kind == "cpu"
    assert found.cores >= 1
    assert GIB / 2 < found.memory_bytes < 2**50


def test_an_unknown_slice_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"There is no slice 'h100x7'. Did you mean 'h100x"):
        find_slice("h100x7")
