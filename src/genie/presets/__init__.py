"""Schedules of training and named configurations."""
