"""What `claude-local doctor` looks at: each check is a function from a Case to a Finding. They change nothing."""
