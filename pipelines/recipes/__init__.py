"""Recipes: functions that return whole configurations, one to a file of its name."""
