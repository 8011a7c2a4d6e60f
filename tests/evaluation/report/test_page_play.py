from genie.evaluation.report import page_play


def long_play(avatar, visible):
    rate = {"mean": 0.5, "low": 0.25, "high": 0.75}
    play = {
        "games": 8, "steps": 30, "seconds": 2.0, "coherent_seconds": rate, "coherent_steps": rate,
        "real_coherent": {"mean_seconds": 1.5, "up_to_seconds": 1.75}, "share_to_the_end": 0.125,
        "ended_by": {"token_statistics": 3, "frozen": 4, "avatar_gone": 0}, "frozen_rate": rate,
        "visible_rate": rate if visible else None,
        "distance": {"times": [1, 8, 15], "mean": [0.1, 0.2, 0.3]},
        "frechet": {"times": [1, 17], "distance": [1.0, 2.0], "real": 0.5, "real_windows": 8},
    }  # fmt: skip
    limits = {
        "distance_median": 0.05, "distance_95": 0.1, "distance_99": 0.15,
        "frozen_frames": 15, "avatar_gone_frames": 15,
    }  # fmt: skip
    real = {
        "longest_frozen_frames": 7, "frames": 800, "episodes": 13, "frozen_rate": 0.25,
        "visible_rate": 0.99 if visible else None,
    }  # fmt: skip
    return {
        "plays": [play], "limits": limits, "real": real, "avatar": avatar, "window": 16,
        "extractor": "pixels-8x8",
    }  # fmt: skip


def test_long_play_with_and_without_an_avatar():
    without = page_play._long_play(long_play({"skipped": "none to follow."}, False), [])
    assert "Avatar: skipped, none to follow." in without
    assert "avatar there" not in without
    found = {"balanced_accuracy": 0.97, "aside": 0.7}
    text = page_play._long_play(long_play(found, True), [])
    assert "0.97" in text
    assert "avatar is gone for more than 15 steps" in text
    assert "avatar there, share of frames" in text
    assert text.count("<svg") == 2
    assert "1.50 of 1.75" in text


def test_what_was_skipped_says_why():
    assert "too short" in page_play._long_play({"skipped": "too short"}, [])
    assert "not now" in page_play._separation({"skipped": "not now"})
    assert page_play._long_rollouts({"skipped": "no"}) == ""


def test_fréchet_distances_stand_under_the_name_of_their_extractor():
    sides = dict.fromkeys(page_play.SIDES, 1.0)
    part = {
        "extractor": "net (sha256 0123)", "dimensions": 4, "samples": 9, "distance": sides,
        "real_halves": 0.5,
    }  # fmt: skip
    text = page_play._frechet(part, {"horizon": 16, "perceptual": None})
    assert "Fréchet distances (net (sha256 0123))" in text
    assert "no network was given with --lpips" in text
