"""Data sets, their files, splits and augmentation."""
