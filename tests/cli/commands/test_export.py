from failing import fails

from genie.cli.main import main


def test_options_reach_the_export(monkeypatch, capsys):
    given = []

    def export(*arguments):
        given.append(arguments)
        return arguments[1]

    monkeypatch.setattr("genie.export.onnx.export_onnx", export)
    monkeypatch.setattr("genie.export.site.export_site", export)
    assert main(["export", "runs/mine", "--onnx", "out", "--weights", "float16"]) == 0
    assert main(["export", "a", "b", "--web", "site", "--runtime", "dist"]) == 0
    assert given == [
        ("runs/mine", "out", "float16"),
        (["a", "b"], "site", "lossless", "dist"),
    ]
    assert capsys.readouterr().out.split() == ["out", "site"]


def test_one_of_the_forms_has_to_be_named(capsys):
    words = "give --onnx OUT or --web SITE, one of them"
    assert fails(capsys, "export", "runs/mine") == words
    assert fails(capsys, "export", "runs/mine", "--onnx", "a", "--web", "b") == words
    assert fails(capsys, "export", "a", "b", "--onnx", "out").startswith("--onnx: takes one world")


def test_a_world_that_is_not_there_is_named(capsys, tmp_path):
    said = fails(capsys, "export", tmp_path / "none", "--onnx", tmp_path / "out")
    assert f"{tmp_path / 'none'}" in said
    assert not (tmp_path / "out").exists()
