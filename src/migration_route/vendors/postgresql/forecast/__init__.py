"""Forecasts what a statement does to the tables of PostgreSQL."""
