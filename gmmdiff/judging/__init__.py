"""Numbers to verdicts: contrasts, the rule, claims, findings."""
