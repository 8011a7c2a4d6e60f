"""What is shown of the figures: pages, tables and pictures."""
