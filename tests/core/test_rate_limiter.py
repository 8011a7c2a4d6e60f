import pytest

from genie.core.rate_limiter import RateLimiter


def test_a_rate_limit_allows_a_burst_and_then_its_rate():
    now = 0.0
    rate = RateLimiter(10, clock=lambda: now)
    assert [rate.wait_for() for _ in range(22)] == [0] * 20 + [0.1, 0.2]
    now = 0.7
    assert [rate.wait_for() for _ in range(6)] == pytest.approx([0] * 5 + [0.1])
    now = 1000.0
    assert sum(rate.wait_for() == 0 for _ in range(100)) == 20


def test_a_client_over_its_rate_waits():
    now = 0.0
    rate = RateLimiter(10, clock=lambda: now)
    assert [rate.wait_for(cost) for cost in (0, 15, 5, 1, 0, 4)] == [0, 0, 0, 0.1, 0, 0.5]
    now = 0.5
    assert [rate.wait_for(0), rate.wait_for(1)] == [0, 0.1]
