"""Webhooks: servers of others that the API server asks, about admission and about conversion."""
