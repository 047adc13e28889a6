"""Agents that have to be told, each in its own way, to talk to the model of this machine."""
