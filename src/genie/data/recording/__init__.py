"""Playing environments into videos with their true actions."""
