"""The cases that need PyTorch."""
