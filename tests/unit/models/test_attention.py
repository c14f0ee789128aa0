"""Which attention a training run takes."""

import pytest

from headrace.devices import CPU
from headrace.models import attention
from tests.unit.models.elsewhere import GPU, XLA


def test_every_kind_of_device_has_the_one_that_suits_it_unless_another_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(attention.VARIABLE, raising=False)
    assert [attention.asked(device) for device in (GPU, CPU, XLA)] == ["blocks", "tiles", "dense"]
    monkeypatch.setenv(attention.VARIABLE, "dense")
    assert [attention.asked(device) for device in (GPU, CPU, XLA)] == ["dense"] * 3
