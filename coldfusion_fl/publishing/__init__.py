"""Models on the Hugging Face Hub: what of a folder may be sent, what is in a repository, and how it gets there."""
