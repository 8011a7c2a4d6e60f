import pytest

from genie.cli.parser import Parser
from genie.core.config import UserError


@pytest.fixture
def parser() -> Parser:
    parser = Parser(prog="genie train")
    parser.add_argument("--num_envs", type=int, default=1)
    parser.add_argument("--device", type=str, default="cpu")
    parser.add_argument("--share", type=float | None)
    parser.add_argument("--config", action="config")
    return parser


def test_dashes_may_stand_for_underscores(parser):
    assert parser.parse_args(["--num-envs", "3"]).num_envs == 3
    assert parser.parse_args(["--num-envs=4"]).num_envs == 4
    assert parser.parse_args(["--device", "--no-such-value"[2:]]).device == "no-such-value"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--num_env", "3"], "--num_env: unknown option, did you mean --num_envs?"),
        (["--zzz"], "--zzz: unknown option; genie train --help lists the options"),
        (["--num_envs", "x"], "num_envs: expected a whole number, got 'x'"),
        (["--share", "x"], "share: expected a number, got 'x'"),
    ],
)
def test_an_error_is_one_sentence(parser, arguments, sentence):
    with pytest.raises(UserError) as error:
        parser.parse_args(arguments)
    assert str(error.value) == sentence


def test_an_unknown_key_of_a_file_is_named(parser, tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text("num_envz: 3\n")
    with pytest.raises(UserError, match="num_envz: unknown option, did you mean --num_envs"):
        parser.parse_args(["--config", str(file)])


def test_what_is_missing_is_named():
    parser = Parser(prog="genie train")
    parser.add_argument("--out", required=True)
    with pytest.raises(UserError, match="give --out; genie train --help"):
        parser.parse_args([])
