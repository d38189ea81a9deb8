"""The rules that look ahead along the plan: eq. 15, its timed form, and what they read."""
