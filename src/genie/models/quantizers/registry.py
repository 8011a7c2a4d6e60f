"""The list of quantizers. A new one is added to the union here and nowhere else."""

from __future__ import annotations

from genie.core.unions import kinds_of
from genie.models.quantizers.bsq import BSQConfig
from genie.models.quantizers.fsq import FSQConfig
from genie.models.quantizers.lfq import LFQConfig
from genie.models.quantizers.vq import VQConfig

QuantizerConfig = VQConfig | FSQConfig | LFQConfig | BSQConfig
"""The configuration of any quantizer. `kind` tells which; the first is the default."""

KINDS = kinds_of(QuantizerConfig)
"""The configuration class of each kind."""
