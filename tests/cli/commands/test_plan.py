from genie.cli.main import main


def test_a_plan_names_memory_time_and_data(capsys):
    sizes = ["--tokenizer.encoder.layers", "1", "--tokenizer.decoder.layers", "1"]
    command = ["plan", "--preset", "tiny", "--stages", "[tokenizer]", "--devices", "1"]
    assert main([*command, *sizes, "--gpu", "a100"]) == 0
    out = capsys.readouterr().out
    assert "parameters, 4 clips at a time on each of 1 a100" in out
    assert "ddp: " in out
    assert "GiB on each, fits" in out
    assert "an hour of video as tokens: 6.91 MB" in out


def test_an_unknown_stage_is_refused(capsys):
    assert main(["plan", "--stages", "[model]"]) != 0
    assert "'model' is none of tokenizer" in capsys.readouterr().err
