"""From files to uint8 batches: sources, index, split, decoding, sealing, augmentation, loading."""
