import pytest

from headrace.errors import ConfigError
from headrace.training.mesh import XLA_AXES, mesh_shape


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("", [8, 1, 1]),
        ("tensor=2", [4, 1, 2]),
        ("data=2,tensor=4", [2, 1, 4]),
        ("tensor=8,data=1", [1, 1, 8]),
        ("data=4,pipeline=2", [4, 2, 1]),
        ("pipeline=8,tensor=1", [1, 8, 1]),
        (" data=4, tensor=2,", [4, 1, 2]),
    ],
)
def test_replicas_are_as_many_as_the_other_axes_leave_room_for(text: str, shape: list[int]) -> None:
    assert mesh_shape(text, 8) == dict(zip(("data", "pipeline", "tensor"), shape, strict=True))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data=3", "'data=3' lays out 3 processes or XLA devices, and there are 8"),
        ("tensor=3", "'tensor=3' lays out 6 processes or XLA devices, and there are 8"),
        ("tensor=16", "'tensor=16' lays out 16 processes or XLA devices, and there are 8"),
        ("rows=2", "'rows=2' has rows=2, and an axis is one of data, pipeline, tensor"),
        ("pipeline=2,tensor=2", "'pipeline=2,tensor=2' has both pipeline and tensor, which do not go together"),
        ("data=0", "'data=0' has data=0"),
        ("data", "'data' has data=, "),
        ("data=four", "'data=four' has data=four, "),
        ("data=2,tensor=4,data=2", "'data=2,tensor=4,data=2' has data twice"),
    ],
)
def test_a_mesh_that_does_not_fill_the_world_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        mesh_shape(text, 8)


def test_devices_of_xla_have_no_stages() -> None:
    assert mesh_shape("tensor=2", 8, XLA_AXES) == {"data": 4, "tensor": 2}
    with pytest.raises(ConfigError, match="has pipeline=2, and an axis is one of data, tensor with"):
        mesh_shape("pipeline=2", 8, XLA_AXES)
