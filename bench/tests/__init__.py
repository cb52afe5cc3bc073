"""Tests of the harness: what it computes, and that every case runs. Times are not asserted."""
