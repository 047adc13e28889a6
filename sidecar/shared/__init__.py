"""What shim and sidecar share: standard library only."""
