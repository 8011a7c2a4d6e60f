"""Commands that fail."""

from genie.cli import main


def fails(capsys, *arguments: object, code: int = 2) -> str:
    """Runs a command that fails; returns its one sentence."""
    assert main.main([str(argument) for argument in arguments]) == code
    said = capsys.readouterr().err.strip()
    assert "Traceback" not in said
    assert said.startswith("genie: ")
    assert len(said.splitlines()) == 1
    return said.removeprefix("genie: ")
