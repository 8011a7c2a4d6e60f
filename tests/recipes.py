"""Modules that the recipes of `docs/extending.md` show."""

import re
import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"


def module_of_recipe(heading: str) -> ModuleType:
    """The first Python block below a heading, run as a module."""
    _, text = PAGE.read_text("utf-8").split(f"\n## {heading}\n")
    code = re.search(r" *```python\n(.*?) *```", text, re.DOTALL)
    assert code
    module = ModuleType(f"recipe: {heading}")
    sys.modules[module.__name__] = module  # where dataclasses look for their types
    exec(dedent(code[1]), vars(module))
    return module
