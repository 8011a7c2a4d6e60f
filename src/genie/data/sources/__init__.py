"""Kinds of videos that `genie prepare` reads: each module here is one, found by its name.

A module has a `SOURCE`, a subclass of `genie.data.sources.base.Source`. Another kind is another
module; nothing else names it.
"""
