"""The theory checks: claims T1 to T6."""
