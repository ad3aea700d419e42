"""Predict once, then judge: logits, metrics, intervals."""
