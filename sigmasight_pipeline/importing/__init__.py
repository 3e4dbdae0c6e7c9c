"""From the bytes of a user's file to validated rows, or to the complete list of what is wrong with it."""
