"""The Flower client of ColD Fusion: a contributor's ClientApp."""
