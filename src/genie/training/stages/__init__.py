"""The stages of training: each module here is one, by the name of its field in `TrainConfig`.

A module has a `STAGE`, an instance of a subclass of `genie.training.stages.base.Stage`. Another
stage is another module and a field of `TrainConfig`. Neither pipeline nor command line names one.
"""
