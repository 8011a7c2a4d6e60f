import pytest

from forked import output_of

SCRIPT = """
import resource, sys, torch
from genie.training.memory import keep_freed_memory

if sys.argv[1] == "keep" and not keep_freed_memory():
    print("no glibc")
    sys.exit()
for turn in range(60):
    torch.ones(8 << 20).sum()
    if turn == 4:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    """Pages that the kernel had to hand out for 55 tensors of 32 MB, one after the other."""
    printed = output_of(SCRIPT, mode).strip()
    if printed == "no glibc":
        pytest.skip("this C library is not glibc")
    return int(printed)


@pytest.mark.long
def test_memory_that_was_freed_is_used_again():
    plain = faults("plain")
    if plain < 10_000:
        pytest.skip("pages are so large here that there is nothing to gain")
    assert faults("keep") < plain / 4
