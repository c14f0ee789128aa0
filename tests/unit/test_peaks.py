import pytest

from headrace import peaks


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H200", 989),
        ("NVIDIA GH200 480GB", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100-PCIE-40GB", 312),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", None),  # three times as fast as the L4 that its name begins with
        ("NVIDIA L40", None),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_accelerators_are_known_by_the_name_that_cuda_gives_them(name: str, teraflops: float | None) -> None:
    assert peaks.published(name) == (None if teraflops is None else teraflops * 1e12)
