"""The loop, and what it steps with: optimisers, schedules, losses, checkpoints."""
