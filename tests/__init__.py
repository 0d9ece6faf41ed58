"""The suite. Folders mirror beaker/ and gae/; fixtures for real servers are in servers.py."""
