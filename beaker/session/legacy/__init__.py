"""What Beaker 1.14 and older left behind: its cookies and records, read under strict limits and never written.

Nothing in here is imported unless the option ``session.legacy`` is set; see docs/migrating.md.
"""
