"""What a step will need on hardware that is not here: chips, work, compiled programs, rooflines."""
