"""A U-Net of ``diffusers`` with tokens for conditions: its training loss, and its sampling."""
