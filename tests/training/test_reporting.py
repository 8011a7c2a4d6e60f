import io

from rich.console import Console

from genie.training.reporting import describe, print_warning


def test_scalars_are_one_line():
    assert describe({"loss": 0.12345, "gain": 2.0}) == "loss 0.1235  gain 2"


def test_warnings_stand_out_in_a_terminal():
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    print_warning(console, "collapsed")
    first, *_, last = console.file.getvalue().splitlines()
    assert ("warning" in first, "╰──" in last) == (True, True)


def test_a_warning_is_one_line_of_a_log_file():
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    print_warning(console, "collapsed [so] " * 20)
    assert console.file.getvalue() == f"warning: {'collapsed [so] ' * 20}\n"
