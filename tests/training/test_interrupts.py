import os
import signal

import pytest

from genie.training.interrupts import Stopped, StopRequest


def test_a_signal_is_noted_and_ends_the_program_where_that_is_safe(console):
    before = signal.getsignal(signal.SIGINT)
    with StopRequest(console) as stop:
        stop.stop("nothing asked for")
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop
        with pytest.raises(Stopped, match="run it again") as stopped:
            stop.stop("run it again")
    assert stopped.value.code == 128 + signal.SIGTERM
    assert "run it again" in console.file.getvalue()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture
def heard():
    """Lets Ctrl-C raise, also where a shell started the tests with that signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_a_second_signal_acts_at_once(console):
    with StopRequest(console):
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
