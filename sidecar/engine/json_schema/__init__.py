"""JSON Schemas, put so that a grammar can be made of them. Pure."""
