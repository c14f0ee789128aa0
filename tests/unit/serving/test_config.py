"""What a serving configuration refuses."""

import pytest

from headrace.config import decode, encode
from headrace.errors import ConfigError
from headrace.serving.config import ServingConfig


def test_a_configuration_survives_its_encoding() -> None:
    config = ServingConfig(port=0, max_batch=3, temperature=0.5)
    assert decode(ServingConfig, encode(config)) == config


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", -1),
        ("port", 65_536),
        ("max_new_tokens", 0),
        ("max_batch", 0),
        ("max_waiting", 0),
        ("max_completions", 0),
        ("max_body_bytes", 0),
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("ready_seconds", 0.0),
        ("grace_seconds", -1),
    ],
)
def test_sizes_no_server_can_have_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name}={value}") as refused:
        decode(ServingConfig, {name: value})
    assert "\n" not in str(refused.value)
