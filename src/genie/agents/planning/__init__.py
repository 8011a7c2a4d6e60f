"""Planning towards a goal picture, in a world or in the real simulator."""
