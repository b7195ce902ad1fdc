"""A pretrained model as a folder, as an encoder with a head, and as arrays."""
