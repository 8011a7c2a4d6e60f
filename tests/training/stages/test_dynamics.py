from dataclasses import replace

from schedules import small_schedule

from genie.training.joint import JointModel
from genie.training.reporting import Diagnostic, DiagnosticWarnings
from genie.training.stages.dynamics import STAGE, report_dynamics
from genie.world.genie import Genie


def test_figures_of_the_dynamics_are_told_and_what_is_wrong_with_them(console):
    seen = [Diagnostic("effect", 0.001, "They ignore the actions."), Diagnostic("gain", 2.5)]
    report_dynamics(seen, DiagnosticWarnings(console))
    assert "effect 0.001  gain 2.5" in console.file.getvalue()
    assert console.file.getvalue().count("They ignore the actions.") == 1


def test_joint_training_trains_the_actions_as_well(small_world):
    world, train = Genie(small_world), small_schedule()
    assert STAGE.model(world, train) is world.dynamics
    both = STAGE.model(world, replace(train, joint=True))
    assert isinstance(both, JointModel)
    assert (both.actions, both.dynamics) == (world.actions, world.dynamics)
