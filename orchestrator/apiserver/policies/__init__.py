"""Admission policies in CEL, and the match conditions of webhooks: decisions without a webhook."""
