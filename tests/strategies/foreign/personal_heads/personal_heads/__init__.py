"""personal-heads."""
