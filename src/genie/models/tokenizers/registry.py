"""The list of tokenizers. A new one is added to the union here and nowhere else."""

from __future__ import annotations

from genie.core.unions import kinds_of
from genie.models.tokenizers.conv import ConvTokenizerConfig
from genie.models.tokenizers.conv3d import Conv3DTokenizerConfig
from genie.models.tokenizers.hierarchical import HierarchicalTokenizerConfig
from genie.models.tokenizers.transformer import VideoTokenizerConfig

TokenizerConfig = (
    VideoTokenizerConfig | ConvTokenizerConfig | Conv3DTokenizerConfig | HierarchicalTokenizerConfig
)
"""The configuration of any tokenizer. `backbone` tells which; the first is the default."""

BACKBONES = kinds_of(TokenizerConfig)
"""The configuration class of each backbone."""
