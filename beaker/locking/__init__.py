"""Locks between threads, processes and, through leases, hosts."""
