"""The commands `genie agent ...`: each module here is one, by its name."""
