"""Poisoning: triggers, victims, the poisoned manifest, and the clean split for fine-tuning."""
