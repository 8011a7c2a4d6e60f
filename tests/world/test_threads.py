import time

import pytest
import torch

from genie.world.threads import use_single_thread_if_fast


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_fast_work_is_left_with_one_thread():
    seen = []
    with use_single_thread_if_fast(
        lambda: seen.append(torch.get_num_threads()), seconds=1
    ) as threads:
        assert torch.get_num_threads() == threads == 1
    assert set(seen) == {1}
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("alone", "together", "chosen"), [(0.02, 0.001, 2), (0.02, 0.2, 1)])
def test_slow_work_takes_the_number_that_is_faster(alone, together, chosen):
    tries = []

    def work():
        tries.append(torch.get_num_threads())
        time.sleep(alone if tries[-1] == 1 else together)

    with use_single_thread_if_fast(work, seconds=0.001) as threads:
        assert torch.get_num_threads() == threads == chosen
    assert tries == sorted(tries)
    assert set(tries) == {1, 2}


def test_a_number_that_the_user_chose_is_obeyed(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with use_single_thread_if_fast(lambda: pytest.fail("tried"), seconds=1) as threads:
        assert threads == 2


def test_work_that_fails_changes_nothing():
    with pytest.raises(ZeroDivisionError), use_single_thread_if_fast(lambda: 1 // 0, seconds=1):
        pytest.fail("entered")
    assert torch.get_num_threads() == 2
