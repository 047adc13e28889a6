"""How the demo model was made; no part of an installation."""
