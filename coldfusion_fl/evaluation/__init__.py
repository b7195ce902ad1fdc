"""Scores of a base: finetuned, frozen (a linear probe) and few-shot."""
