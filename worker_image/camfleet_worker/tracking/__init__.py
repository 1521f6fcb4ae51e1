"""From detections in pictures to things that came, stayed and went."""
