"""Building blocks that the three models share."""
