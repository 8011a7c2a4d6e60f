import numpy as np

from genie.cli import main
from genie.data.store import ClipStore
from genie.data.video import write_video


def test_shards_are_prepared_and_merged_by_the_commands(tmp_path, capsys):
    videos, parts = tmp_path / "videos", [tmp_path / "a", tmp_path / "b"]
    videos.mkdir()
    noise = np.random.default_rng(0)
    for number in range(3):
        frames = noise.integers(0, 256, (20, 32, 32, 3), np.uint8)
        write_video(videos / f"{number}.mp4", frames, 10)
    for number, part in enumerate(parts, start=1):
        options = ["--height", "16", "--width", "16", "--workers", "0", "--scene_threshold", "1"]
        command = ["prepare", str(videos), "--out", str(part), "--shard", f"{number}/2", *options]
        assert main.main(command) == 0
    assert f"{parts[0]}: 2 clips of 2 of 2 videos" in capsys.readouterr().out
    assert main.main(["merge", str(tmp_path / "store"), *map(str, parts)]) == 0
    assert f"{tmp_path / 'store'}: 3 clips of 3 of 3 videos" in capsys.readouterr().out
    assert len(ClipStore.open(tmp_path / "store")) == 60
