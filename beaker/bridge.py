"""What a backend builds its store with, under its older path; see :mod:`beaker.caching.factory`."""

from beaker.caching.factory import given as given
from beaker.caching.factory import store_for as store_for
