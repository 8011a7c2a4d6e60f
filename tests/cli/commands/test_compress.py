from genie.cli import main
from genie.world.genie import Genie


def test_the_smaller_world_is_written_and_both_sizes_are_said(capsys, tmp_path, world):
    assert main.main(["compress", str(world), "--out", str(tmp_path / "small")]) == 0
    assert "MB before" in capsys.readouterr().out
    assert Genie.from_pretrained(tmp_path / "small", device="cpu").config.height
