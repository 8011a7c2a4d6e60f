import asyncio
from dataclasses import replace

import pytest

from genie.core.config import UserError
from genie.serving.limits import Limits, RequestRejected
from genie.serving.service import ServedWorld, Service, batch_sizes
from genie.world.action_groups import ActionGroup, ActionGroups, Directions, write_groups


def test_worlds_are_found_by_name_and_the_first_one_without(dot_world, dot_prompts):
    service = Service([ServedWorld(name, dot_world, dot_prompts) for name in ("b", "a")])
    assert service.world("a").name == "a"
    assert service.world(None).name == "b"
    for name in ("", "c", "../a", "/etc/passwd", "a/../b"):
        with pytest.raises(RequestRejected, match="GET /worlds") as refused:
            service.world(name)
        assert refused.value.status == 404
        assert "passwd" not in str(refused.value)


def test_two_worlds_of_one_name_are_refused(dot_world, dot_prompts):
    with pytest.raises(UserError, match="rename"):
        Service([ServedWorld("a", dot_world, dot_prompts)] * 2)


def test_the_service_is_ready_when_all_worlds_are_warm_until_it_stops(dot_world, dot_prompts):
    service = Service([ServedWorld(name, dot_world, dot_prompts) for name in ("a", "b")])

    async def live():
        assert not service.ready
        async with service.running():
            while not service.ready:
                await asyncio.sleep(0.01)
            assert all(world.warm for world in service.worlds.values())
            service.stop()
            with pytest.raises(RequestRejected) as refused:
                service.require_ready()
            assert refused.value.retry_after == 1, "another replica is ready"

    asyncio.run(live())


def test_a_failed_warm_up_is_a_failure_of_the_server(dot_world, dot_prompts):
    service = Service([ServedWorld("a", dot_world, dot_prompts)])
    dot_world.broken = True

    async def live():
        async with service.running():
            while service.failure is None:
                await asyncio.sleep(0.01)

    asyncio.run(live())
    assert "broken" in str(service.failure)
    assert not service.ready


@pytest.mark.parametrize(
    ("players", "sizes"),
    [(1, (1, 2)), (2, (1, 2)), (3, (1, 2, 4)), (4, (1, 2, 4)), (16, (1, 2, 4, 8, 16))],
)
def test_a_compiled_world_is_warmed_for_all_batch_sizes(dot_world, dot_prompts, players, sizes):
    assert batch_sizes(players) == sizes
    compiled = ServedWorld("a", dot_world, dot_prompts, compiled=True)

    async def live():
        service = Service([compiled], Limits(players=players))
        async with service.running():
            while not service.ready:
                await asyncio.sleep(0.01)
            assert dot_world.batches == list(sizes)

    asyncio.run(live())


def test_a_world_is_described_with_the_buttons_that_were_measured(dot_world, dot_prompts, tmp_path):
    ways = Directions(left=0.0, right=0.9, up=0.0, down=0.0, still=0.1)
    right = ActionGroup((1, 2), "right", "Scrolls left.", 0.9, ways, (2.0, 0.0), True)
    none = replace(right, actions=(0, 3), distinct=False)
    write_groups(tmp_path, ActionGroups(96, 8, 0.0, (right, none), ()))
    served = [ServedWorld("a", dot_world, dot_prompts, folder=tmp_path)]
    (button,) = Service(served).worlds["a"].describe().buttons
    assert button.model_dump() == {
        "actions": [1, 2],
        "name": "right",
        "effect": "Scrolls left.",
    }


def test_a_world_without_a_mapper_has_no_real_actions(dot_world, dot_prompts, tmp_path):
    served = [ServedWorld("a", dot_world, dot_prompts, folder=tmp_path)]
    assert Service(served).worlds["a"].describe().real_actions == []
