import sys

import pytest

from genie.core.config import UserError
from genie.core.lazy import lazy_names

HOMES = {"Fraction": "fractions", "nothing": "a_module_that_is_not_installed"}


def test_a_name_is_imported_when_it_is_used():
    get, names = lazy_names("package", HOMES)
    assert names() == ["Fraction", "nothing"]
    assert get("Fraction") is sys.modules["fractions"].Fraction
    with pytest.raises(AttributeError, match="'package' has no attribute 'other'"):
        get("other")


def test_a_missing_module_names_the_extra_that_has_it():
    get, _ = lazy_names("package", HOMES, extra="serve")
    with pytest.raises(UserError, match=r"a_module.*pip install 'genie-worlds\[serve\]'"):
        get("nothing")
    with pytest.raises(ModuleNotFoundError):
        lazy_names("package", HOMES)[0]("nothing")
