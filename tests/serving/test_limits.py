import asyncio

import pytest

from genie.core.config import UserError
from genie.serving.limits import Limits, RequestRejected, Slots, read_upload


def test_slots_are_taken_and_given_back():
    places = Slots(1, retry_after_seconds=7)
    with places, pytest.raises(RequestRejected, match="try again in 7 seconds") as refused, places:
        pass
    assert (refused.value.status, refused.value.retry_after) == (503, 7)
    assert places.taken == 0
    with pytest.raises(KeyError), places:
        raise KeyError
    assert places.taken == 0


def upload(chunks, **limits):
    async def arriving():
        for chunk in chunks:
            await asyncio.sleep(0)
            yield chunk

    return asyncio.run(read_upload(arriving(), Limits(**limits)))


def test_an_upload_is_stopped_where_it_becomes_too_large():
    sent = []

    def endless():
        while True:
            sent.append(bytes(1000))
            yield sent[-1]

    assert upload([b"ab", b"cd"]) == b"abcd"
    assert len(upload([bytes(5000)] * 2, upload_megabytes=0.01)) == 10_000
    with pytest.raises(RequestRejected, match=r"0\.01 MB") as refused:
        upload(endless(), upload_megabytes=0.01)
    assert refused.value.status == 413
    assert len(sent) == 11


def test_an_upload_that_takes_too_long_is_stopped():
    async def trickling():
        while True:
            await asyncio.sleep(0.01)
            yield b"a"

    with pytest.raises(RequestRejected) as refused:
        asyncio.run(read_upload(trickling(), Limits(upload_seconds=0.05)))
    assert refused.value.status == 408


@pytest.mark.parametrize("field", ["players", "upload_megabytes", "idle_minutes"])
def test_a_limit_of_zero_is_refused(field):
    with pytest.raises(UserError, match=f"{field}: must be more than 0"):
        Limits(**{field: 0})
