import platform
import subprocess
import sys

import pytest

from headrace import resident

AGAIN = """
import resource
from headrace import resident
kept = {keep} and resident.keep_freed()
bytearray(2**26)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray(2**26)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""Pages the system has cleared when as much memory is asked for as was freed."""
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


def faults(keep: bool) -> int:
    program = AGAIN.format(keep=keep)
    return int(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_memory_that_is_freed_stays_where_it_is_asked_to() -> None:
    assert faults(keep=True) < 10 < faults(keep=False)
