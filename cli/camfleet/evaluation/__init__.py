"""`camfleet eval`: how well faces are found and told apart, on anybody's pictures, by the worker's code."""
