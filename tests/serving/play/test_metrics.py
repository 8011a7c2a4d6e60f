import numpy as np
from served import figures

from genie.serving.play.batch import PlayAction, StartGame
from genie.serving.play.metrics import InstrumentedGameBatch, Metrics


def test_rounds_are_counted(dot_world, dot_prompts):
    metrics = Metrics()
    games = InstrumentedGameBatch(dot_world, dot_prompts).measure(metrics, "dots")
    games.advance({1: StartGame(0, 0), 2: StartGame(1, 0)})
    games.advance({})
    drawn = games.advance({1: PlayAction(1), 2: PlayAction(0)})
    assert set(drawn) == {1, 2}
    for _ in range(2):
        games.commit()
    counted = figures(metrics.text().decode())
    assert counted["genie_frames_total", "dots"] == 4
    assert counted["genie_batch_size_count", "dots"] == 2
    assert counted["genie_batch_size_sum", "dots"] == 4
    assert counted["genie_round_seconds_count", "dots"] == 2
    assert counted["genie_commit_seconds_count", "dots"] == 1
    assert counted["genie_failed_turns_total", "dots"] == 0


def test_failed_turns_are_counted(dot_world, dot_prompts):
    metrics = Metrics()
    games = InstrumentedGameBatch(dot_world, dot_prompts).measure(metrics, "dots")
    games.advance({1: StartGame(0, 0)})
    dot_world.broken = True
    assert isinstance(games.advance({1: PlayAction(0)})[1], RuntimeError)
    counted = figures(metrics.text().decode())
    assert counted["genie_failed_turns_total", "dots"] == 1
    assert counted["genie_frames_total", "dots"] == 1


def test_memory_and_rejections_are_measured():
    metrics, other = Metrics(), Metrics()
    metrics.rejected("token")
    metrics.rejected("token")
    counted = figures(metrics.text().decode())
    assert counted["genie_rejections_total", "token"] == 2
    assert counted[("process_resident_memory_bytes",)] > np.float64(1e6)
    assert ("genie_rejections_total", "token") not in figures(other.text().decode())
