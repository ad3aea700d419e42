"""Networks of our own, those of torchvision by name, and the bundle that carries one with all it needs."""
