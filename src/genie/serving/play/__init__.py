"""The path of a player's action to the world and of the frame back to the player."""
