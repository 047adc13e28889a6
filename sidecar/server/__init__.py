"""Who may come in, what each path does, and what is told of it."""
