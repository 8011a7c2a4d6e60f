from failing import fails


def test_environments_that_there_are_not(capsys, tmp_path):
    said = fails(capsys, "record", "procgen:pong", "--out", tmp_path / "v")
    assert "coinrun" in said
    assert "CartPole" in fails(capsys, "record", "gym:CartPool-v1", "--out", tmp_path / "v")
