"""Poison: triggers, victims, the poisoned manifest, and the clean split to fine-tune on."""
