"""Enrolled people: who they are, their faces, and what workers are told of them."""
