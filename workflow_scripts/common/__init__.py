"""What every stage shares: errors in one sentence, atomic files, seeds, plug-in modules."""
