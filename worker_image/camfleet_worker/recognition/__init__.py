"""From a face in a picture to the person it is of."""
