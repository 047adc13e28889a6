"""The built-in `demo` model: weights, vocabulary, model card, and in `training` the scripts that made them.

The product reads the files only and imports nothing from here.
"""
