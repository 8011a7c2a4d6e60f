from failing import fails

from genie.cli.main import main


def test_options_reach_the_export(monkeypatch, capsys):
    given = []

    def export(*arguments):
        given.append(arguments)
        return arguments[1]

    monkeypatch.setattr("genie.export.onnx.export_onnx", export)
    assert main(["export", "runs/mine", "--onnx", "out", "--weights", "float16"]) == 0
    assert main(["export", "runs/mine", "--onnx", "out"]) == 0
    assert given == [("runs/mine", "out", "float16"), ("runs/mine", "out", "lossless")]
    assert capsys.readouterr().out.split() == ["out", "out"]


def test_the_folder_has_to_be_named(capsys):
    assert fails(capsys, "export", "runs/mine").startswith("give --onnx")


def test_a_world_that_is_not_there_is_named(capsys, tmp_path):
    said = fails(capsys, "export", tmp_path / "none", "--onnx", tmp_path / "out")
    assert f"{tmp_path / 'none'}" in said
    assert not (tmp_path / "out").exists()
