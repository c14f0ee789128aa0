import subprocess
import sys

from headrace import resident

TOUCH = "from headrace import resident; held = bytearray({size}); print(resident.peak_bytes())"


def peak_of(size: int) -> int:
    """Of a program that holds so many bytes, started by this one, which holds more."""
    return int(subprocess.run([sys.executable, "-c", TOUCH.format(size=size)], capture_output=True, check=True).stdout)


def test_the_peak_is_the_programs_own_and_not_its_parents() -> None:
    held = bytearray(b"x" * 2**28)
    small, large = peak_of(0), peak_of(2**26)
    assert small < 2**27 < len(held)
    assert 0.9 * 2**26 < large - small < 1.5 * 2**26
    assert (resident.peak_bytes() or 0) > 2**28
