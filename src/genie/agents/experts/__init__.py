"""Players with skill, for recording expert videos."""
