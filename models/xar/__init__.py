"""xAR: next-X prediction by flow matching, the backbone being the velocity field."""
