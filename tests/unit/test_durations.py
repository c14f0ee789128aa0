import pytest

from headrace.durations import duration


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_read_as_one_would_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said
