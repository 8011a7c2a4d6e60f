from failing import fails

from genie.cli.main import main


def test_options_reach_the_export_and_the_result_is_named(tmp_path, monkeypatch, capsys):
    given = []

    def export(*arguments):
        given.append(arguments)
        out = tmp_path / arguments[1]
        out.mkdir()
        (out / "world.json").write_bytes(bytes(2_500_000))
        return out

    monkeypatch.setattr("genie.export.onnx.export_onnx", export)
    monkeypatch.setattr("genie.export.site.export_site", export)
    assert main(["export", "runs/mine", "--onnx", "out", "--weights", "float16"]) == 0
    assert main(["export", "a", "b", "--web", "site", "--runtime", "dist"]) == 0
    assert given == [
        ("runs/mine", "out", "float16"),
        (["a", "b"], "site", "lossless", "dist"),
    ]
    one, graphs, example, two, site, play, publish = capsys.readouterr().out.splitlines()
    assert (one[:14], two[:14]) == ("exporting mine", "exporting a, b")
    assert graphs.startswith(f"{tmp_path / 'out'}: graphs, weights and world.json")
    assert graphs.endswith("2.5 MB")
    assert "examples/play_onnx.py" in example
    assert site == f"{tmp_path / 'site'}: a site of a, b, 2.5 MB"
    assert play == "play it: python -m http.server --bind 127.0.0.1 --directory site"
    assert "docs/export.md" in publish


def test_one_of_the_forms_has_to_be_named(capsys):
    words = "give --onnx OUT or --web SITE, one of them"
    assert fails(capsys, "export", "runs/mine") == words
    assert fails(capsys, "export", "runs/mine", "--onnx", "a", "--web", "b") == words
    assert fails(capsys, "export", "a", "b", "--onnx", "out").startswith("--onnx: takes one world")


def test_a_world_that_is_not_there_is_named(capsys, tmp_path):
    said = fails(capsys, "export", tmp_path / "none", "--onnx", tmp_path / "out")
    assert f"{tmp_path / 'none'}" in said
    assert not (tmp_path / "out").exists()
