"""Notifications by webhook and email, retried until they are delivered or given up."""
