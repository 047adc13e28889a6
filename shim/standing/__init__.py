"""The name that services of older versions start the relay of global mode by."""
