"""How near the machine is to swapping, and what gives memory back."""
