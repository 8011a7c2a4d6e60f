import json

import numpy as np

from genie.cli import main
from genie.data.quality import load_quality
from small import save_store


def test_a_filter_is_learned_from_a_file_of_labels(tmp_path, capsys):
    noise = np.random.default_rng(0).integers(0, 256, (5, 8, 16, 16, 3), np.uint8)
    clips = [("train", clip) for clip in (*noise, *(noise // 8))]
    save_store(tmp_path / "store", *clips)
    labels = {str(n): "bad" if n < 5 else "good" for n in range(10)}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    line = ["label", f"{tmp_path}/store", f"--labels={tmp_path}/labels.json"]
    out = tmp_path / "quality.json"
    assert main.main([*line, f"--out={out}", "--progress=false"]) == 0
    assert (load_quality(out).good, load_quality(out).bad) == (5, 5)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{out}: from 5 good and 5 bad clips; in 100.0% of held-out pairs")
    assert said[1] == (f"next: genie prepare VIDEOS --out STORE --quality {out} --keep_best 0.1")
    (tmp_path / "labels.json").write_text('{"1": "good"}')
    assert main.main([*line, f"--out={out}", "--progress=false"]) == 2
    assert "1 good and 0 bad ones" in capsys.readouterr().err
