import time

import pytest
import torch

from genie.nn.threads import spare_threads


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_fast_work_is_left_with_one_thread():
    seen = []
    assert spare_threads(lambda: seen.append(torch.get_num_threads()), seconds=1, threads=2) == 1
    assert torch.get_num_threads() == 1
    assert set(seen) == {1}


@pytest.mark.usefixtures("two_threads")
def test_slow_work_keeps_its_threads():
    assert spare_threads(lambda: time.sleep(0.002), seconds=0.001, threads=2) == 2
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_a_number_that_the_user_chose_is_obeyed(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    seen = []
    assert spare_threads(lambda: seen.append(torch.get_num_threads()), seconds=1, threads=2) == 2
    assert seen == [2]
