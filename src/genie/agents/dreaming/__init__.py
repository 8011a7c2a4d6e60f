"""Learning in the dream: an actor and a critic that never see the real game while they learn."""
