"""Blinded reader study: design, identical export, sealed key, rating store, reader sessions, merging, closing, leak check."""
