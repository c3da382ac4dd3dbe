"""How near to the machine's own rate, and beside what others offer; no claim rests on it."""
