"""The meeting point: workers bring pictures in, viewers take them out."""
