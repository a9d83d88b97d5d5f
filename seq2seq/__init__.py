"""Recurrent encoder-decoder models."""
