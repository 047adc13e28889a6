"""One sidecar for all: found or started, and asked for a lease."""
