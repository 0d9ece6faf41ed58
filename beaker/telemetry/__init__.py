"""The counts of :mod:`beaker.counters` in the forms of monitoring systems; their libraries are imported when used."""
