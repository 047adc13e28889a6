"""What tests of more than one tier use."""
