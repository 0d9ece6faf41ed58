"""Removing expired records; :mod:`beaker.operations.purging` under the name that applications import."""

from beaker.operations.purging import Outcome as Outcome
from beaker.operations.purging import purge as purge
from beaker.operations.purging import purgeable as purgeable
from beaker.operations.purging import stores_of as stores_of
