import pytest

from genie.evaluation.report import summary


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "dB", "–"),
        (3, "", "3"),
        (1.236, "dB", "1.24 dB"),
        (0.0123, "", "0.012"),
        (0.0, "dB", "0 dB"),
        (-0.0001, "", "0.000"),
    ],
)
def test_figures_are_short(value, unit, text):
    assert summary.format_value(value, unit) == text


def report(delta, stderr, times=("1", "4")):
    at = {"delta_psnr": {"mean": delta, "stderr": stderr}}
    return {"rollouts": {"at": dict.fromkeys(times, at)}}


@pytest.mark.parametrize(
    ("delta", "stderr", "verdict"),
    [
        (1.5, 0.1, "good"),
        (0.5, 0.1, "fair"),
        (0.5, 0.2, "poor"),
        (-2, 0.1, "poor"),
        (1.5, None, "poor"),
    ],
)
def test_control_must_stand_out_by_three_standard_errors(delta, stderr, verdict):
    assert summary._delta(report(delta, stderr))["verdict"] == verdict


def test_control_is_quoted_at_four_or_before():
    assert summary.quoted_step(report(1, 0, ("1", "4", "8"))) == "4"
    assert summary.quoted_step(report(1, 0, ("1", "3"))) == "3"


def test_collapsed_actions_are_poor_and_used_ones_good():
    verdicts = [
        summary._usage({"latent_actions": {"perplexity": p, "count": 8}})["verdict"]
        for p in (1.0, 2.5, 4.5)
    ]
    assert verdicts == ["poor", "fair", "good"]


def test_summary_is_one_line_a_figure():
    line = summary._headline("Name", 1.5, "dB", 0.0, "nothing", "good", "Words.")
    text = summary.format_summary({"headlines": [line], "notes": ["few clips"]})
    assert text == "good  Name: 1.50 dB (nothing: 0 dB)\nnote  few clips"


@pytest.mark.parametrize(
    ("ratio", "p", "share", "verdict"),
    [(5, 0.001, 0.9, "good"), (1.5, 0.01, 0.2, "fair"), (1.1, 0.2, 0.0, "poor")],
)
def test_separation_must_be_more_than_chance(ratio, p, share, verdict):
    part = {"ratio": ratio, "null_95": 1.2, "p": p, "share_separated": share}
    assert summary._separation(part)["verdict"] == verdict


@pytest.mark.parametrize(("seconds", "verdict"), [(16, "good"), (6, "fair"), (2, "poor")])
def test_long_play_is_judged_beside_real_episodes(seconds, verdict):
    play = {
        "seconds": 17.0, "coherent_seconds": {"mean": seconds},
        "coherent_steps_beside_real": min(10 * seconds, 100),
        "real_coherent": {"mean_seconds": 9.5, "up_to_seconds": 10.0, "mean_steps": 95},
    }  # fmt: skip
    line = summary._long_play({"rollouts": [play]})
    assert line["verdict"] == verdict
    assert (line["baseline"], line["baseline_name"]) == (9.5, "real episodes, of up to 10.00 s")
    unknown = summary._long_play({"rollouts": [play | {"real_coherent": None}]})
    assert (unknown["verdict"], unknown["baseline"]) == ("poor", None)
