"""The command `genie`."""
