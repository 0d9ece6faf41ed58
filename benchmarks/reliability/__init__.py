"""What this Beaker keeps, and what Beaker 1.14.1 keeps, while processes, servers, disks and clocks fail.

``oracle`` judges what was seen, ``actor`` is one client and ``worker`` its process, ``place`` a store and ``run`` one
scenario on it, ``faults`` the scenarios, ``soak`` the long run, ``page`` the figures. See docs/reliability.md.
"""
