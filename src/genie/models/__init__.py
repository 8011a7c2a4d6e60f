"""The three models and what they are built of."""
