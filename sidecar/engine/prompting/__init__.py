"""Conversations become prompts."""
