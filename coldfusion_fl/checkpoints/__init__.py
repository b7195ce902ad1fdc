"""Finetuned checkpoints of one base, from anywhere, fused into a better base."""
