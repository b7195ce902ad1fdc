"""lora-adapters."""
