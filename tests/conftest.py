"""What all tests share: shapes checked against signatures, one thread, the same random numbers."""

from __future__ import annotations

import os
import random

# Small tensors gain nothing from threads, and tests share the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from jaxtyping import install_import_hook

# Stays on for the whole run: modules of genie are imported by the tests, after this file.
install_import_hook("genie", "shapes.checked")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    import numpy as np
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
