"""What an operator runs: explain, checks, purging. The command line, cron and the doctor share it."""
