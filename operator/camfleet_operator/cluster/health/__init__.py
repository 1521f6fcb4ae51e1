"""What is known of the cameras, whose fault it is when they are not well, and what is moved for it."""
