"""What holds the shared base: its state, how a round makes the next base, and what a run folder has in the end."""
