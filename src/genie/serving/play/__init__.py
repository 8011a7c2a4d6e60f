"""What the action of a player passes through, and the frame that comes back."""
