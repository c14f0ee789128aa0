import platform
import subprocess
import sys

import pytest

from headrace import resident

GAPS = """
from headrace import resident
def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
pieces = [bytearray(2**14) for _ in range(2**12)]
pieces = pieces[::16]
before = held()
assert resident.give_back()
print(before - held())
"""
"""Bytes that leave a program in which one piece of sixteen is still in use."""
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim is glibc's")
def test_gaps_between_what_is_held_are_given_back() -> None:
    told = subprocess.run([sys.executable, "-c", GAPS], capture_output=True, check=True).stdout
    assert int(told) > 2**25
